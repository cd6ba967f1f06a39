//! A pick: one backend for one attempt.

use std::sync::Arc;

use super::backend::Backend;
use super::{Cluster, Snapshot};
use crate::balancer::Balancer;
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

/// Why there is nobody to pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPick {
    /// The cluster is empty.
    NoBackend,
    /// It has backends, but none that may be used, or each was tried.
    NoEligibleBackend,
}

impl Picker {
    pub fn new(cluster: Arc<Cluster>, rng: fastrand::Rng) -> Self {
        let balancer = Balancer::new(cluster.settings.policy);
        Self { cluster, snapshot: Arc::default(), balancer, rng }
    }

    /// A backend from the current snapshot, none of those `tried` before.
    pub fn pick(&mut self, tried: &[u64]) -> Result<Pick, NoPick> {
        self.follow();
        let candidates = &self.snapshot.candidates;
        let entry = |index: usize| &self.snapshot.entries[candidates.indices[index]];
        let in_flight = |index: usize| entry(index).backend.in_flight();
        // Nobody measures latencies yet: `peak_ewma` then picks as `least_request` does.
        let ewma = |_: usize| None;
        let (weights, rng) = (&candidates.weights, &mut self.rng);
        let picked = match tried {
            [] => self.balancer.pick(weights, in_flight, ewma, rng),
            _ => {
                let tried = |index: usize| tried.contains(&candidates.ids[index]);
                self.balancer.pick_other(weights, in_flight, ewma, tried, rng)
            }
        };
        match picked {
            Some(index) => Ok(Pick::new(Arc::clone(&entry(index).backend))),
            None if self.snapshot.entries.is_empty() => Err(NoPick::NoBackend),
            None => Err(NoPick::NoEligibleBackend),
        }
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
}

/// A backend that one attempt is using: counted in flight until it is dropped, and then with
/// what came of it.
#[derive(Debug)]
pub struct Pick {
    pub backend: Arc<Backend>,
    outcome: Outcome,
}

impl Pick {
    fn new(backend: Arc<Backend>) -> Self {
        backend.begin();
        // An attempt that nobody judged was given up by the app.
        Self { backend, outcome: Outcome::Cancelled }
    }

    /// What came of the attempt, should nothing else happen to it.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.backend.end(self.outcome);
    }
}
