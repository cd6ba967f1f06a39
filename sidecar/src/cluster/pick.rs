//! A pick: one backend for one attempt.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, PENALTY};
use super::lead::{Key, Lead};
use super::{Cluster, Event, Snapshot};
use crate::balancer::Balancer;
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

    /// A backend from the current snapshot: the one of the key, one on trial, or the policy's. `connects` says whether there is, or may be,
    /// a connection to a backend; it is asked only where something is bounded.
    pub fn pick(
        &mut self,
        wish: Wish<'_>,
        connects: impl Fn(&Backend) -> bool,
    ) -> Result<Pick, NoPick> {
        self.follow();
        let strict = self.cluster.settings.affinity.strict;
        let (home, next) = match Lead::of(&self.cluster, &self.snapshot, &wish) {
            Lead::Nowhere => (None, None),
            Lead::Home(place) => match begin(&self.snapshot, place, &wish, &connects) {
                Some(mut pick) => {
                    pick.stayed = true;
                    return Ok(pick);
                }
                None if strict => return Err(NoPick::Full),
                None => (None, None),
            },
            Lead::Away { home, .. } if strict => {
                return self.on_trial(&wish, home, false).ok_or_else(|| self.nobody());
            }
            Lead::Away { home, next } => (home, next),
        };
        self.on_trial(&wish, home, true)
            .or_else(|| next.and_then(|place| begin(&self.snapshot, place, &wish, &connects)))
            .map_or_else(|| self.by_policy(&wish, connects), Ok)
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

    /// An ejected backend whose time is over, for one of those who would otherwise go elsewhere:
    /// the one with the id `home`, or with `others` any.
    fn on_trial(&self, wish: &Wish<'_>, home: Option<u64>, others: bool) -> Option<Pick> {
        let trials = &self.snapshot.candidates.trials;
        if trials.is_empty() || !wish.tried.is_empty() {
            return None;
        }
        let backend = |index: usize| &self.snapshot.entries[index].backend;
        let is_home = |index: usize| home == Some(backend(index).id);
        let overdue = |index: usize| {
            let ejection = self.snapshot.entries[index].ejection;
            let base = self.cluster.settings.outlier.as_ref().map(|rules| rules.base_ejection);
            ejection.zip(base).is_some_and(|(ejection, base)| ejection.until + base <= wish.now)
        };
        let index = trials
            .iter()
            .copied()
            .filter(|index| others || is_home(*index))
            // Where nothing could be repeated nobody would ever be found to have recovered.
            .find(|index| (wish.replayable || overdue(*index)) && backend(*index).begin_trial())?;
        match begin(&self.snapshot, index, wish, &Backend::may_connect) {
            Some(mut pick) => {
                pick.trial = Some(Arc::clone(&self.cluster));
                pick.stayed = is_home(index);
                Some(pick)
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
        let (snapshot, rng) = (&self.snapshot, &mut self.rng);
        let candidates = &snapshot.candidates;
        let backend = |index: usize| &snapshot.entries[candidates.indices[index]].backend;
        let in_flight = |index: usize| backend(index).in_flight();
        let ewma = |index: usize| backend(index).expected(wish.now);
        let tried = |index: usize| wish.tried.contains(&candidates.ids[index]);
        let mut picked = match wish.tried {
            _ if !self.cluster.has_room() => None,
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
            true => self.nobody(),
            false => NoPick::Full,
        })
    }

    fn nobody(&self) -> NoPick {
        match self.snapshot.is_empty() {
            true => NoPick::NoBackend,
            false => NoPick::NoEligibleBackend,
        }
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

/// A backend that one attempt is using: counted in flight until it is dropped, and then with
/// what came of it.
#[derive(Debug)]
pub struct Pick {
    pub backend: Arc<Backend>,
    /// Whether it is where the key belongs.
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

#[cfg(test)]
mod tests;
