//! Whether the sidecar should get traffic: what the admin API tells orchestrators, and the control API
//! apps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::{Cluster, rfc3339};
use crate::shutdown::Phase;

#[derive(Debug)]
pub struct Readiness {
    clusters: Vec<Arc<Cluster>>,
    phase: watch::Receiver<Phase>,
    /// When it no longer waits for first answers.
    until: Instant,
    /// Set once everything was settled: what joins later makes nobody less ready.
    settled: AtomicBool,
}

impl Readiness {
    /// Of a sidecar that starts now, and waits for first answers for so long.
    pub fn new(
        clusters: Vec<Arc<Cluster>>,
        phase: watch::Receiver<Phase>,
        start_timeout: Duration,
    ) -> Self {
        let until = Instant::now() + start_timeout;
        Self { clusters, phase, until, settled: AtomicBool::new(false) }
    }

    /// Why the sidecar should get no traffic yet, or no more.
    pub fn reasons(&self) -> Vec<String> {
        if *self.phase.borrow() > Phase::Running {
            return vec!["shutting down".into()];
        }
        if self.until <= Instant::now() || self.settled.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let unsettled = |cluster: &&Arc<Cluster>| !cluster.snapshot().settled();
        let reason = |cluster: &Arc<Cluster>| {
            let what = if cluster.snapshot().source.is_some() {
                "not every backend has been probed yet"
            } else {
                "discovery has not answered yet"
            };
            format!("cluster `{}`: {what}", cluster.name())
        };
        let reasons: Vec<_> = self.clusters.iter().filter(unsettled).map(reason).collect();
        self.settled.store(reasons.is_empty(), Ordering::Relaxed);
        reasons
    }

    /// What is worth knowing, and no reason to give it no traffic.
    pub fn details(&self) -> Vec<String> {
        let detail = |cluster: &Arc<Cluster>| {
            let snapshot = cluster.snapshot();
            let since = rfc3339(snapshot.stale_since?);
            let from = if snapshot.from_memory { "are remembered, and were" } else { "were" };
            Some(format!("cluster `{}`: endpoints {from} last confirmed {since}", cluster.name()))
        };
        self.clusters.iter().filter_map(detail).collect()
    }
}
