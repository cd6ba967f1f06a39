//! Handles, in the groups in which they appear and disappear.

use std::sync::{OnceLock, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::names::{
    AFFINITIES, AffinityResult, DRAINS, DROPS, DrainResult, Dropped, EJECTIONS, ENDS,
    EjectionReason, End, OUTCOMES, Outcome, REASONS, UPDATES, Update,
};
use super::{Group, Metrics, counter};

#[derive(Debug)]
pub struct ListenerMetrics {
    pub connections: Counter,
    pub connections_active: Gauge,
}

impl Group for ListenerMetrics {
    fn touch(&self) {
        self.connections.increment(0);
        self.connections_active.increment(0.0);
    }
}

/// Answers of one listener for one cluster.
#[derive(Debug)]
pub struct RouteMetrics {
    pub(super) registry: Weak<Metrics>,
    pub(super) listener: String,
    pub(super) cluster: String,
    /// By status, from 100; a code has its series from its first answer on.
    pub(super) requests: [OnceLock<Counter>; 500],
    pub(super) errors: [Counter; REASONS.len()],
}

impl RouteMetrics {
    /// The counter of answers with this status.
    pub fn requests(&self, status: u16) -> &Counter {
        let index = usize::from(status.clamp(100, 599) - 100);
        self.requests[index].get_or_init(|| {
            let code = status.to_string();
            let labels = [
                ("listener", self.listener.as_str()),
                ("outrigger_cluster", &self.cluster),
                ("code", &code),
                ("grpc_code", ""),
            ];
            match self.registry.upgrade() {
                Some(registry) => counter(&registry.recorder, "outrigger_requests_total", &labels),
                None => Counter::noop(),
            }
        })
    }

    /// The counter of answers of our own for this reason, one of [`REASONS`].
    pub fn errors(&self, reason: &str) -> Option<&Counter> {
        REASONS.iter().position(|known| *known == reason).map(|index| &self.errors[index])
    }
}

impl Group for RouteMetrics {
    fn touch(&self) {
        self.errors.iter().for_each(|counter| counter.increment(0));
        self.requests.iter().filter_map(OnceLock::get).for_each(|counter| counter.increment(0));
    }
}

/// TCP connections or UDP sessions of one listener for one cluster.
#[derive(Debug)]
pub struct TransportMetrics {
    pub(super) ends: [Counter; ENDS.len()],
    pub(super) errors: [Counter; REASONS.len()],
    pub duration: Histogram,
}

impl TransportMetrics {
    /// One has ended, so long after it began.
    pub fn ended(&self, end: End, lasted: Duration) {
        self.ends[end as usize].increment(1);
        self.duration.record(lasted);
        if end.is_error()
            && let Some(index) = REASONS.iter().position(|reason| *reason == end.name())
        {
            self.errors[index].increment(1);
        }
    }
}

impl Group for TransportMetrics {
    fn touch(&self) {
        self.ends.iter().chain(&self.errors).for_each(|counter| counter.increment(0));
    }
}

/// What passes through a UDP listener.
#[derive(Debug)]
pub struct UdpMetrics {
    pub sessions: Gauge,
    pub to_backend: Counter,
    pub from_backend: Counter,
    pub(super) dropped: [Counter; DROPS.len()],
}

impl UdpMetrics {
    pub fn dropped(&self, reason: Dropped) -> &Counter {
        &self.dropped[reason as usize]
    }
}

impl Group for UdpMetrics {
    fn touch(&self) {
        let counters = [&self.to_backend, &self.from_backend];
        counters.into_iter().chain(&self.dropped).for_each(|counter| counter.increment(0));
        self.sessions.increment(0.0);
    }
}

#[derive(Debug)]
pub struct ClusterMetrics {
    pub request_duration: Histogram,
    pub bytes_to_backend: Counter,
    pub bytes_from_backend: Counter,
    pub probes_passed: Counter,
    pub probes_failed: Counter,
    pub retries_succeeded: Counter,
    pub retries_failed: Counter,
    pub retries_exhausted: Counter,
    pub(super) ejections: [Counter; EJECTIONS.len()],
    pub(super) drains: [Counter; DRAINS.len()],
    pub(super) affinity: [Counter; AFFINITIES.len()],
    /// In the order of the sources.
    pub(super) updates: Box<[[Counter; UPDATES.len()]]>,
    pub removals_held: Counter,
    pub fleet_orders_ignored: Counter,
    pub last_success: Gauge,
    pub stale: Gauge,
    pub eligible: Gauge,
    pub panic: Gauge,
}

impl ClusterMetrics {
    pub fn ejection(&self, reason: EjectionReason) -> &Counter {
        &self.ejections[reason as usize]
    }

    pub fn drain(&self, result: DrainResult) -> &Counter {
        &self.drains[result as usize]
    }

    /// Counts what came of asking a source, named by its place in the configuration.
    pub fn updated(&self, source: usize, result: Update) {
        if let Some(updates) = self.updates.get(source) {
            updates[result as usize].increment(1);
        }
    }

    pub fn affinity(&self, result: AffinityResult) -> &Counter {
        &self.affinity[result as usize]
    }
}

impl Group for ClusterMetrics {
    fn touch(&self) {
        let counters = [
            &self.bytes_to_backend,
            &self.bytes_from_backend,
            &self.probes_passed,
            &self.probes_failed,
            &self.retries_succeeded,
            &self.retries_failed,
            &self.retries_exhausted,
            &self.removals_held,
            &self.fleet_orders_ignored,
        ];
        let by_label = self.ejections.iter().chain(&self.drains).chain(&self.affinity);
        let by_label = by_label.chain(self.updates.as_flattened());
        counters.into_iter().chain(by_label).for_each(|counter| counter.increment(0));
        [&self.last_success, &self.stale, &self.eligible, &self.panic]
            .into_iter()
            .for_each(|gauge| gauge.increment(0.0));
    }
}

/// What is counted of a backend; its gauges are [`BackendRow`](super::BackendRow)s.
#[derive(Debug)]
pub struct BackendMetrics {
    pub(super) outcomes: [Counter; OUTCOMES.len()],
    pub connections: Counter,
}

impl BackendMetrics {
    /// `None`: it is not counted.
    pub fn outcome(&self, outcome: Outcome) -> Option<&Counter> {
        let counted = match outcome {
            Outcome::Unused => return None,
            Outcome::Stale => Outcome::Reset,
            outcome => outcome,
        };
        Some(&self.outcomes[counted as usize])
    }
}

impl Group for BackendMetrics {
    fn touch(&self) {
        self.outcomes.iter().for_each(|counter| counter.increment(0));
        self.connections.increment(0);
    }
}
