//! Backends: live endpoints with their measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use super::endpoint::Endpoint;
use crate::telemetry::metrics::{BackendMetrics, Metrics, Outcome};

/// What a pick returns. The facts in it never change: a new weight or target name makes a new
/// `Backend` that shares the measurements of the old one.
#[derive(Debug)]
pub struct Backend {
    /// Names the address within its cluster for as long as the sidecar remembers it.
    pub id: u64,
    /// `IP:port`, `[v6]:port` or `unix:/path`.
    pub name: Arc<str>,
    pub endpoint: Endpoint,
    /// How a Host header names this backend: its target and port, or else its address.
    pub host: HeaderValue,
    measurements: Arc<Measurements>,
}

/// Written by workers and probes as things happen, read by whoever balances or reports.
#[derive(Debug)]
struct Measurements {
    in_flight: AtomicU32,
    successes: AtomicU32,
    connections: AtomicU32,
    last_probe: ArcSwapOption<ProbeReport>,
    metrics: Arc<BackendMetrics>,
}

/// The latest probe, for people.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    pub at: SystemTime,
    /// From request to answer, of `tcp` to the connection; of a failure, how long it took.
    pub round_trip: Duration,
    /// Why it failed.
    pub result: Result<(), String>,
}

impl Backend {
    /// A backend that was not known before.
    pub(super) fn new(id: u64, endpoint: Endpoint, cluster: &str, metrics: &Metrics) -> Self {
        let name: Arc<str> = endpoint.address.to_string().into();
        let measurements = Measurements {
            in_flight: AtomicU32::new(0),
            successes: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            last_probe: ArcSwapOption::empty(),
            metrics: metrics.backend(cluster, &name),
        };
        let host = endpoint.host();
        Self { id, name, host, endpoint, measurements: Arc::new(measurements) }
    }

    /// The same backend with what discovery says of it now.
    pub(super) fn with_endpoint(&self, endpoint: Endpoint) -> Self {
        Self {
            id: self.id,
            name: Arc::clone(&self.name),
            host: endpoint.host(),
            endpoint,
            measurements: Arc::clone(&self.measurements),
        }
    }

    pub fn metrics(&self) -> &BackendMetrics {
        &self.measurements.metrics
    }

    /// Attempts in progress, of all workers.
    pub fn in_flight(&self) -> u32 {
        self.measurements.in_flight.load(Ordering::Relaxed)
    }

    /// Attempts that succeeded, of all workers; it wraps.
    pub fn successes(&self) -> u32 {
        self.measurements.successes.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.measurements.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.measurements.in_flight.fetch_sub(1, Ordering::Relaxed);
        if outcome == Outcome::Success {
            self.measurements.successes.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics().outcome(outcome).increment(1);
    }

    /// Open connections, of all workers.
    pub fn connections(&self) -> u32 {
        self.measurements.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection for as long as the guard lives.
    pub fn connected(self: &Arc<Self>) -> ConnectionGuard {
        self.measurements.connections.fetch_add(1, Ordering::Relaxed);
        self.metrics().connections.increment(1);
        ConnectionGuard(Arc::clone(self))
    }

    pub fn last_probe(&self) -> Option<Arc<ProbeReport>> {
        self.measurements.last_probe.load_full()
    }

    pub(super) fn probed(&self, report: ProbeReport) {
        self.measurements.last_probe.store(Some(Arc::new(report)));
    }
}

/// One open connection to a backend.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<Backend>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.measurements.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
