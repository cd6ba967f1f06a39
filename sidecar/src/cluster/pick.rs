//! A pick: one backend for one attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, PENALTY};
use super::{Cluster, Event, Snapshot};
use crate::balancer::{Balancer, Bound, hash};
use crate::telemetry::metrics::Outcome;

/// Picks for one worker: it holds the worker's turn, its source of chance and its copy of the
/// current snapshot, so that a pick is synchronous and shares nothing but atomics.
#[derive(Debug)]
pub struct Picker {
    cluster: Arc<Cluster>,
    snapshot: Arc<Snapshot>,
    balancer: Balancer,
    rng: fastrand::Rng,
}

/// What is asked of a pick.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    pub key: Key,
    /// Backends that had their chance.
    pub tried: &'a [u64],
    /// Whether the work could be done by another backend should this one fail: then it may show
    /// whether an ejected one has recovered.
    pub replayable: bool,
    pub now: Instant,
}

/// What keeps a client at a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    None,
    /// The name that a cookie has for the backend.
    Tag(u64),
    /// The hash of a key that leads to the backend it was given first.
    Learned(u64),
    /// The hash of a key that leads to a backend by itself.
    Hashed(u64),
}

impl Key {
    pub fn learned(key: &[u8]) -> Self {
        Self::Learned(hash(key))
    }

    pub fn hashed(key: &[u8]) -> Self {
        Self::Hashed(hash(key))
    }
}

/// Why there is nobody to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPick {
    /// The cluster is empty.
    NoBackend,
    /// It has backends, but none that may be used, or each was tried.
    NoEligibleBackend,
    /// Whoever may be used has as much work as it may have.
    Full,
}

impl Picker {
    pub fn new(cluster: Arc<Cluster>, rng: fastrand::Rng) -> Self {
        let balancer = Balancer::new(cluster.settings.policy);
        Self { cluster, snapshot: Arc::default(), balancer, rng }
    }

    /// A backend from the current snapshot: the one of the key, one on trial, or the policy's.
    pub fn pick(&mut self, wish: Wish<'_>) -> Result<Pick, NoPick> {
        self.follow();
        if let Some((index, stayed)) = self.affine(&wish)
            && let Some(mut pick) = self.begin(index, wish.now)
        {
            pick.stayed = stayed;
            return Ok(pick);
        }
        if self.cluster.settings.affinity.strict && matches!(wish.key, Key::Tag(_)) {
            return Err(NoPick::NoEligibleBackend);
        }
        match self.on_trial(&wish) {
            Some(pick) => Ok(pick),
            None => self.by_policy(&wish),
        }
    }

    /// The snapshot that picks are made from.
    pub fn snapshot(&mut self) -> &Arc<Snapshot> {
        self.follow();
        &self.snapshot
    }

    /// Takes over the current snapshot, if it is another.
    fn follow(&mut self) {
        let current = self.cluster.snapshot.load();
        if Arc::ptr_eq(&current, &self.snapshot) {
            return;
        }
        let candidates = &current.candidates;
        if *candidates != self.snapshot.candidates {
            self.balancer.update(&candidates.ids, &candidates.weights, &mut self.rng);
        }
        self.snapshot = Arc::clone(&current);
    }

    /// Where the key leads, if that may be used, and whether it always does.
    fn affine(&self, wish: &Wish<'_>) -> Option<(usize, bool)> {
        let snapshot = &self.snapshot;
        let place = match wish.key {
            Key::None => None,
            Key::Hashed(hash) => return self.hashed(hash, wish),
            Key::Tag(tag) => snapshot.find_tag(tag),
            Key::Learned(hash) => {
                self.cluster.learned.as_ref()?.get(hash, wish.now).and_then(|id| snapshot.find(id))
            }
        }?;
        let fresh = !wish.tried.contains(&snapshot.entries[place].backend.id);
        (fresh && snapshot.may_stay(place)).then_some((place, true))
    }

    fn hashed(&self, hash: u64, wish: &Wish<'_>) -> Option<(usize, bool)> {
        let snapshot = &self.snapshot;
        let keyed = snapshot.keyed.as_ref()?;
        let place = |member: usize| snapshot.find(keyed.ids[member]);
        let usable = |member: usize| {
            let fresh = !wish.tried.contains(&keyed.ids[member]);
            let candidate =
                |place: usize| snapshot.candidates.indices.binary_search(&place).is_ok();
            fresh && place(member).is_some_and(candidate)
        };
        let first = keyed.table.lookup(hash)?;
        let member = match self.cluster.settings.affinity.bounded_load {
            None => keyed.table.pick(hash, usable),
            Some(percent) => {
                let load = |member: usize| {
                    place(member).map_or(0, |place| snapshot.entries[place].backend.in_flight())
                };
                let backends = snapshot.candidates.indices.iter().map(|i| &snapshot.entries[*i]);
                let bound = Bound {
                    total_load: backends.clone().map(|e| u64::from(e.backend.in_flight())).sum(),
                    total_weight: backends.map(|e| u64::from(e.backend.endpoint.weight)).sum(),
                    factor_percent: u32::from(percent),
                };
                keyed.table.pick_bounded(hash, usable, load, bound)
            }
        }?;
        Some((place(member)?, member == first))
    }

    /// An ejected backend whose time is over, for one of those who would otherwise go elsewhere.
    fn on_trial(&self, wish: &Wish<'_>) -> Option<Pick> {
        let trials = &self.snapshot.candidates.trials;
        if trials.is_empty() || !wish.tried.is_empty() {
            return None;
        }
        let backend = |index: &usize| &self.snapshot.entries[*index].backend;
        let overdue = |index: &usize| {
            let ejection = self.snapshot.entries[*index].ejection;
            let base = self.cluster.settings.outlier.as_ref().map(|rules| rules.base_ejection);
            ejection.zip(base).is_some_and(|(ejection, base)| ejection.until + base <= wish.now)
        };
        let index = trials
            .iter()
            // Where nothing could be repeated nobody would ever be found to have recovered.
            .find(|index| (wish.replayable || overdue(index)) && backend(index).begin_trial())?;
        match self.begin(*index, wish.now) {
            Some(mut pick) => {
                pick.trial = Some(Arc::clone(&self.cluster));
                Some(pick)
            }
            None => {
                backend(index).end_trial();
                None
            }
        }
    }

    fn by_policy(&mut self, wish: &Wish<'_>) -> Result<Pick, NoPick> {
        let candidates = &self.snapshot.candidates;
        let entry = |index: usize| &self.snapshot.entries[candidates.indices[index]];
        let in_flight = |index: usize| entry(index).backend.in_flight();
        let ewma = |index: usize| entry(index).backend.expected(wish.now);
        let (weights, rng) = (&candidates.weights, &mut self.rng);
        let mut picked = match wish.tried {
            [] => self.balancer.pick(weights, in_flight, ewma, rng),
            tried => {
                let tried = |index: usize| tried.contains(&candidates.ids[index]);
                self.balancer.pick_other(weights, in_flight, ewma, tried, rng)
            }
        };
        let mut full: Vec<u64> = Vec::new();
        while let Some(index) = picked {
            let backend = &entry(index).backend;
            if backend.begin() {
                return Ok(Pick::new(Arc::clone(backend), wish.now));
            }
            if !self.cluster.has_room() {
                return Err(NoPick::Full);
            }
            full.push(backend.id);
            let out = |index: usize| {
                let id = &candidates.ids[index];
                wish.tried.contains(id) || full.contains(id)
            };
            picked = self.balancer.pick_other(weights, in_flight, ewma, out, rng);
        }
        match full.is_empty() {
            false => Err(NoPick::Full),
            true if self.snapshot.is_empty() => Err(NoPick::NoBackend),
            true => Err(NoPick::NoEligibleBackend),
        }
    }

    fn begin(&self, index: usize, now: Instant) -> Option<Pick> {
        let backend = &self.snapshot.entries[index].backend;
        backend.begin().then(|| Pick::new(Arc::clone(backend), now))
    }
}

/// A backend that one attempt is using: counted in flight until it is dropped, and then with
/// what came of it.
#[derive(Debug)]
pub struct Pick {
    pub backend: Arc<Backend>,
    /// Whether it is where the key always leads.
    pub stayed: bool,
    outcome: Outcome,
    started: Instant,
    answered: bool,
    /// The cluster, if this shows whether the backend has recovered and has not shown it yet.
    trial: Option<Arc<Cluster>>,
}

impl Pick {
    fn new(backend: Arc<Backend>, now: Instant) -> Self {
        // An attempt that nobody judged was given up by the app.
        let outcome = Outcome::Cancelled;
        Self { backend, stayed: false, outcome, started: now, answered: false, trial: None }
    }

    /// The head of the answer is here. A failure counts as slow, and who asks to be left alone for
    /// a while counts as that slow.
    pub fn answered(&mut self, failed: bool, retry_after: Option<Duration>) {
        let now = Instant::now();
        let penalty = retry_after.or(failed.then_some(PENALTY));
        self.backend.answered(now.duration_since(self.started), penalty, now);
        self.answered = true;
        if let Some(cluster) = self.trial.take() {
            show(&cluster, &self.backend, !failed);
        }
    }

    /// What came of the attempt, should nothing else happen to it.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Whether it is to show that an ejected backend has recovered.
    pub fn is_trial(&self) -> bool {
        self.trial.is_some()
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        let failed = self.outcome.is_failure();
        if !self.answered && self.outcome != Outcome::Stale {
            let now = Instant::now();
            self.backend.unanswered(now.duration_since(self.started), failed, now);
        }
        self.backend.end(self.outcome, self.answered);
        match self.trial.take() {
            Some(cluster) if failed => show(&cluster, &self.backend, false),
            // Nothing is known: the next may try.
            Some(_) => self.backend.end_trial(),
            None => {}
        }
    }
}

/// Tells what a trial has shown. When the cluster has too much to do, the next may try.
fn show(cluster: &Cluster, backend: &Backend, passed: bool) {
    let shown = Event::Trial { id: backend.id, passed };
    if cluster.events.try_send(shown).is_err() {
        backend.end_trial();
    }
}
