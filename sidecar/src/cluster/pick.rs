//! A pick: one backend for one attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, PENALTY};
use super::{Cluster, Event, Snapshot};
use crate::balancer::{Balancer, Bound, hash};
use crate::telemetry::metrics::Outcome;

/// How often a pick looks for a backend with room.
const LOOKS: usize = 4;

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

    /// A backend from the current snapshot: where the key leads always, one on trial, one that
    /// stands in for the key's own, or the policy's. `connects` says whether there is, or may be,
    /// a connection to a backend; it is asked only where something is bounded.
    pub fn pick(
        &mut self,
        wish: Wish<'_>,
        connects: impl Fn(&Backend) -> bool,
    ) -> Result<Pick, NoPick> {
        self.follow();
        let home = self.home(&wish);
        let bound = self.is_bound(&wish, home);
        if let Some(place) = home.filter(|place| self.may_go_home(*place, &wish, bound)) {
            match begin(&self.snapshot, place, &wish, &connects) {
                Some(pick) => return Ok(pick.staying(true)),
                None if bound => return Err(NoPick::Full),
                None => {}
            }
        }
        if let Some((place, pick)) = self.on_trial(&wish, if bound { home } else { None }) {
            return Ok(pick.staying(home == Some(place)));
        }
        if bound {
            return Err(NoPick::NoEligibleBackend);
        }
        match self.stand_in(&wish, &connects) {
            Some(pick) => Ok(pick),
            None => self.by_policy(&wish, connects),
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

    /// Where the key always leads.
    fn home(&self, wish: &Wish<'_>) -> Option<usize> {
        let snapshot = &self.snapshot;
        let id = match wish.key {
            Key::None => return None,
            Key::Tag(tag) => return snapshot.find_tag(tag),
            Key::Learned(hash) => self.cluster.learned.as_ref()?.get(hash, wish.now)?,
            Key::Hashed(hash) => {
                let keyed = snapshot.keyed.as_ref()?;
                keyed.ids[keyed.table.lookup(hash)?]
            }
        };
        snapshot.find(id)
    }

    /// Whether the key leads home or nowhere. A name that no backend has leads nowhere; a key that
    /// has no home yet may get one.
    fn is_bound(&self, wish: &Wish<'_>, home: Option<usize>) -> bool {
        self.cluster.settings.affinity.strict
            && match wish.key {
                Key::None => false,
                Key::Tag(_) => true,
                Key::Learned(_) | Key::Hashed(_) => home.is_some(),
            }
    }

    fn may_go_home(&self, place: usize, wish: &Wish<'_>, bound: bool) -> bool {
        let snapshot = &self.snapshot;
        let fresh = !wish.tried.contains(&snapshot.entries[place].backend.id);
        fresh
            && match wish.key {
                // A hash does not tell those who were there before from those who are new, so it
                // leads to where new work may go, and no further than the bound on loads allows.
                Key::Hashed(_) => {
                    let bounded = self.cluster.settings.affinity.bounded_load.is_some();
                    snapshot.candidates.has(place) && (bound || !bounded)
                }
                _ => snapshot.may_stay(place),
            }
    }

    /// The next one in the order of a hashed key that may be used, its own included where loads
    /// are bounded.
    fn stand_in(&self, wish: &Wish<'_>, connects: &impl Fn(&Backend) -> bool) -> Option<Pick> {
        let Key::Hashed(hash) = wish.key else { return None };
        let snapshot = &self.snapshot;
        let keyed = snapshot.keyed.as_ref()?;
        let place = |member: usize| snapshot.find(keyed.ids[member]);
        let usable = |member: usize| {
            let fresh = !wish.tried.contains(&keyed.ids[member]);
            fresh && place(member).is_some_and(|place| snapshot.candidates.has(place))
        };
        let member = match self.cluster.settings.affinity.bounded_load {
            None => keyed.table.pick(hash, usable),
            Some(percent) => {
                let load = |member: usize| {
                    place(member).map_or(0, |place| snapshot.entries[place].backend.in_flight())
                };
                keyed.table.pick_bounded(hash, usable, load, bound(snapshot, percent))
            }
        }?;
        let stayed = keyed.table.lookup(hash) == Some(member);
        Some(begin(snapshot, place(member)?, wish, connects)?.staying(stayed))
    }

    /// An ejected backend whose time is over, for one of those who would otherwise go elsewhere;
    /// `only`: for one who may go nowhere but there.
    fn on_trial(&self, wish: &Wish<'_>, only: Option<usize>) -> Option<(usize, Pick)> {
        let trials = &self.snapshot.candidates.trials;
        if trials.is_empty() || !wish.tried.is_empty() {
            return None;
        }
        let backend = |index: usize| &self.snapshot.entries[index].backend;
        let overdue = |index: usize| {
            let ejection = self.snapshot.entries[index].ejection;
            let base = self.cluster.settings.outlier.as_ref().map(|rules| rules.base_ejection);
            ejection.zip(base).is_some_and(|(ejection, base)| ejection.until + base <= wish.now)
        };
        let index = trials
            .iter()
            .copied()
            .filter(|index| only.is_none_or(|only| only == *index))
            // Where nothing could be repeated nobody would ever be found to have recovered.
            .find(|index| (wish.replayable || overdue(*index)) && backend(*index).begin_trial())?;
        match begin(&self.snapshot, index, wish, &Backend::may_connect) {
            Some(mut pick) => {
                pick.trial = Some(Arc::clone(&self.cluster));
                Some((index, pick))
            }
            None => {
                backend(index).end_trial();
                None
            }
        }
    }

    fn by_policy(
        &mut self,
        wish: &Wish<'_>,
        connects: impl Fn(&Backend) -> bool,
    ) -> Result<Pick, NoPick> {
        if !self.cluster.has_room() {
            return Err(NoPick::Full);
        }
        let (snapshot, rng) = (&self.snapshot, &mut self.rng);
        let candidates = &snapshot.candidates;
        let backend = |index: usize| &snapshot.entries[candidates.indices[index]].backend;
        let in_flight = |index: usize| backend(index).in_flight();
        let ewma = |index: usize| backend(index).expected(wish.now);
        let tried = |index: usize| wish.tried.contains(&candidates.ids[index]);
        let mut picked = match wish.tried {
            [] => self.balancer.pick(&candidates.weights, in_flight, ewma, rng),
            _ => self.balancer.pick_other(&candidates.weights, in_flight, ewma, tried, rng),
        };
        // Another may take the last room between a look and the beginning.
        for _ in 0..LOOKS {
            let Some(index) = picked else { break };
            if let Some(pick) = begin(snapshot, candidates.indices[index], wish, &connects) {
                return Ok(pick);
            }
            let out = |index: usize| {
                tried(index) || backend(index).is_full() || !connects(backend(index))
            };
            picked = self.balancer.pick_other(&candidates.weights, in_flight, ewma, out, rng);
        }
        Err(match (0..candidates.ids.len()).all(tried) {
            false => NoPick::Full,
            true if snapshot.is_empty() => NoPick::NoBackend,
            true => NoPick::NoEligibleBackend,
        })
    }
}

/// Begins an attempt at the backend at this place, if there is room for it.
fn begin(
    snapshot: &Snapshot,
    place: usize,
    wish: &Wish<'_>,
    connects: &impl Fn(&Backend) -> bool,
) -> Option<Pick> {
    let backend = &snapshot.entries[place].backend;
    let begun = match backend.is_bounded() {
        true => connects(backend) && backend.begin(),
        false => backend.begin(),
    };
    begun.then(|| Pick::new(Arc::clone(backend), wish.now))
}

/// What a backend may have of the load of all that may be used.
fn bound(snapshot: &Snapshot, percent: u16) -> Bound {
    let backends = || snapshot.candidates.indices.iter().map(|i| &snapshot.entries[*i].backend);
    // Whose weight is 0 counts as 1 in a table.
    let weight = |backend: &Arc<Backend>| u64::from(backend.endpoint.weight.max(1));
    Bound {
        total_load: backends().map(|backend| u64::from(backend.in_flight())).sum(),
        total_weight: backends().map(weight).sum(),
        factor_percent: u32::from(percent),
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
    /// Whether it was sent and waits for its answer.
    waits: bool,
    /// The cluster, if this shows whether the backend has recovered and has not shown it yet.
    trial: Option<Arc<Cluster>>,
}

impl Pick {
    fn new(backend: Arc<Backend>, now: Instant) -> Self {
        // An attempt that nobody judged was given up by the app.
        let outcome = Outcome::Cancelled;
        Self {
            backend,
            stayed: false,
            outcome,
            started: now,
            answered: false,
            waits: true,
            trial: None,
        }
    }

    fn staying(mut self, stayed: bool) -> Self {
        self.stayed = stayed;
        self
    }

    /// Whether all of the request was sent: only then is an answer waited for.
    pub fn sent(&mut self, sent: bool) {
        if self.waits != sent && !self.answered {
            self.waits = sent;
            self.backend.waits(sent);
        }
    }

    /// The head of the answer is here. A failure counts as slow, and who asks to be left alone for
    /// a while counts as that slow.
    pub fn answered(&mut self, failed: bool, retry_after: Option<Duration>) {
        let now = Instant::now();
        let penalty = retry_after.or(failed.then_some(PENALTY));
        let waited = std::mem::take(&mut self.waits);
        self.backend.answered(now.duration_since(self.started), penalty, waited, now);
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
        let attempted = !matches!(self.outcome, Outcome::Stale | Outcome::Unused);
        if !self.answered && attempted {
            let now = Instant::now();
            self.backend.unanswered(now.duration_since(self.started), failed, now);
        }
        self.backend.end(self.outcome, self.answered, self.waits);
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
