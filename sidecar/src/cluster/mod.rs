//! The model: clusters, their backends, and who may be picked now.
//!
//! Decisions live in an immutable [`Snapshot`] that one task per cluster writes
//! ([`ClusterTask`]); measurements live as atomics on [`Backend`] and are written by everyone.
//! Whoever reads does so without a lock; whoever has something to say sends an [`Event`].
//! Nothing here opens a socket, asks DNS or knows HTTP.

pub mod affinity;
mod backend;
mod endpoint;
mod pick;
mod snapshot;
mod task;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use backend::{Backend, ConnectionGuard, ProbeReport};
pub use endpoint::{Endpoint, MAX_ENDPOINTS, WEIGHT_ONE};
pub use pick::{NoPick, Pick, Picker};
pub use snapshot::{Entry, Snapshot, State};
pub use task::{ClusterTask, Event};

use crate::config;
use crate::telemetry::metrics::{ClusterMetrics, Metrics, STATES};

/// Events that wait for the task of a cluster. Senders wait when it is full, except those that
/// have a later chance to say the same.
const EVENTS: usize = 1024;

/// A cluster as the rest of the sidecar holds it.
#[derive(Debug)]
pub struct Cluster {
    pub settings: Arc<config::Cluster>,
    pub metrics: Arc<ClusterMetrics>,
    snapshot: ArcSwap<Snapshot>,
    events: mpsc::Sender<Event>,
    version: watch::Receiver<u64>,
}

impl Cluster {
    /// A cluster and the task that writes its snapshots, to be run by the caller.
    pub fn new(
        settings: Arc<config::Cluster>,
        start_timeout: Duration,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, ClusterTask) {
        let (events, inbox) = mpsc::channel(EVENTS);
        let (announce, version) = watch::channel(0);
        let cluster = Arc::new(Self {
            metrics: metrics.cluster(&settings.name, settings.source.kind()),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            events,
            version,
            settings,
        });
        let pending_until = Instant::now() + start_timeout;
        let task = ClusterTask::new(
            Arc::clone(&cluster),
            inbox,
            announce,
            Arc::clone(metrics),
            pending_until,
        );
        (cluster, task)
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The current view.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Changes with every new snapshot.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    /// Where discovery and health say what they found.
    pub fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }
    /// Sets the gauges that follow from the current view.
    pub fn report(&self) {
        let snapshot = self.snapshot();
        self.metrics.eligible.set(snapshot.candidates.indices.len() as f64);
        self.metrics.panic.set(f64::from(u8::from(snapshot.candidates.panic)));
        for entry in &snapshot.entries {
            let backend = &entry.backend;
            let metrics = backend.metrics();
            for (name, gauge) in STATES.iter().zip(&metrics.states) {
                gauge.set(f64::from(u8::from(*name == entry.state.name())));
            }
            metrics.weight.set(f64::from(backend.endpoint.weight) / f64::from(WEIGHT_ONE));
            metrics.in_flight.set(f64::from(backend.in_flight()));
            metrics.connections_active.set(f64::from(backend.connections()));
        }
    }
}
