//! Backends: live endpoints with their measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use tokio::time::Instant;

use super::affinity::Tags;
use super::endpoint::Endpoint;
use super::limits::Gate;
use super::load::{Counts, Load};
use super::order::OrderError;
use super::outcomes::{Alarm, Outcomes};
use crate::balancer::Ewma;
use crate::telemetry::metrics::{BackendMetrics, Metrics, Outcome};

/// What an attempt that failed counts as, at least, in the average of latencies: an error comes
/// fast, and whoever fails fast must not look like whoever is fast.
pub(super) const PENALTY: Duration = Duration::from_secs(1);

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
    /// The hash of its name, by which keyed picks know it on every sidecar.
    pub(super) key: u64,
    /// What cookies call it; `None` where there are none.
    pub tags: Option<Tags>,
    measurements: Arc<Measurements>,
}

/// What all backends of a cluster share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) history: Arc<super::History>,
    pub(super) affinity: Option<Arc<super::affinity::Keyring>>,
    /// `None`: real traffic is not judged.
    pub(super) alarm: Option<Arc<Alarm>>,
    /// `None`: there is no bound.
    pub(super) gate: Option<Arc<Gate>>,
    /// What measured times count from.
    pub(super) epoch: Instant,
}

/// Written by workers and probes as things happen, read by whoever balances or reports.
#[derive(Debug)]
struct Measurements {
    load: Load,
    outcomes: Outcomes,
    ewma: Ewma,
    /// Of answers that were no failures.
    usual: Ewma,
    connections: AtomicU32,
    /// Whether somebody is trying if it has recovered from what it was ejected for.
    trial: AtomicBool,
    /// Work that was ended by force since its drain began.
    forced: AtomicU32,
    last_probe: ArcSwapOption<ProbeReport>,
    metrics: Arc<BackendMetrics>,
    gate: Option<Arc<Gate>>,
    epoch: Instant,
}

/// The latest probe, for people.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    pub at: SystemTime,
    /// Why it failed.
    pub result: Result<(), String>,
    /// From the question to the answer.
    pub round_trip: Duration,
}

/// The backend of this name, or the only one whose target or node is called so.
pub(super) fn named<'b>(
    backends: impl Iterator<Item = &'b Arc<Backend>> + Clone,
    name: &str,
) -> Result<&'b Arc<Backend>, OrderError> {
    if let Some(backend) = backends.clone().find(|backend| *backend.name == *name) {
        return Ok(backend);
    }
    let is_called = |called: &Option<Arc<str>>| {
        called.as_deref().is_some_and(|called| called.eq_ignore_ascii_case(name))
    };
    let mut found = backends
        .filter(|backend| is_called(&backend.endpoint.target) || is_called(&backend.endpoint.node));
    match (found.next(), found.count()) {
        (None, _) => Err(OrderError::Unknown(name.into())),
        (Some(only), 0) => Ok(only),
        (Some(_), others) => Err(OrderError::Ambiguous(name.into(), others + 1)),
    }
}

impl Backend {
    /// A backend that was not known before.
    pub(super) fn new(id: u64, endpoint: Endpoint, shared: &Shared) -> Self {
        let name: Arc<str> = endpoint.address.to_string().into();
        let measurements = Measurements {
            load: Load::default(),
            outcomes: Outcomes::new(shared.alarm.clone()),
            ewma: Ewma::default(),
            usual: Ewma::default(),
            connections: AtomicU32::new(0),
            trial: AtomicBool::new(false),
            forced: AtomicU32::new(0),
            last_probe: ArcSwapOption::empty(),
            metrics: shared.metrics.backend(&shared.cluster, &name),
            gate: shared.gate.clone(),
            epoch: shared.epoch,
        };
        let host = endpoint.host();
        let key = crate::balancer::hash(name.as_bytes());
        let tags = shared.affinity.as_ref().map(|keyring| keyring.tags(&shared.cluster, &name));
        Self { id, name, host, key, tags, endpoint, measurements: Arc::new(measurements) }
    }

    /// The same backend with what discovery says of it now.
    pub(super) fn with_endpoint(&self, endpoint: Endpoint) -> Self {
        Self {
            id: self.id,
            name: Arc::clone(&self.name),
            host: endpoint.host(),
            key: self.key,
            tags: self.tags,
            endpoint,
            measurements: Arc::clone(&self.measurements),
        }
    }

    pub fn metrics(&self) -> &BackendMetrics {
        &self.measurements.metrics
    }

    /// Attempts in progress, of all workers.
    pub fn in_flight(&self) -> u32 {
        self.measurements.load.in_flight()
    }

    pub(super) fn counts(&self) -> Counts {
        self.measurements.load.counts()
    }

    /// Attempts that ended well, of all workers; it wraps.
    pub fn successes(&self) -> u32 {
        let (_, answered_failures) = self.failures();
        self.counts().answered.wrapping_sub(answered_failures)
    }

    /// All failures, and those that came with an answer or after it.
    pub(super) fn failures(&self) -> (u32, u32) {
        self.measurements.outcomes.failures()
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.measurements.outcomes.is_suspect()
    }

    pub(super) fn forgive(&self) {
        self.measurements.outcomes.forgive();
    }

    /// An attempt begins; false when it may have no more of them.
    pub(super) fn begin(&self) -> bool {
        match &self.measurements.gate {
            None => self.measurements.load.begin(),
            Some(gate) => return gate.begin(&self.measurements.load),
        }
        true
    }

    /// Whether an attempt is one that has been sent and waits for its answer.
    pub(super) fn waits(&self, waits: bool) {
        let load = &self.measurements.load;
        if waits { load.sent() } else { load.sending() }
    }

    /// The head of an answer is here, so long after the attempt began. `penalty`: it is a failure,
    /// or asks to be left alone for so long.
    pub(super) fn answered(
        &self,
        took: Duration,
        penalty: Option<Duration>,
        waited: bool,
        now: Instant,
    ) {
        self.measurements.load.answer(waited);
        match penalty {
            Some(penalty) => self.observe(took.max(penalty), now),
            None => {
                self.observe(took, now);
                self.measurements.usual.observe(took, self.millis(now));
            }
        }
    }

    /// `waits`: that it was sent and not answered.
    pub(super) fn end(&self, outcome: Outcome, answered: bool, waits: bool) {
        self.measurements.load.end(waits);
        self.measurements.outcomes.count(self.id, outcome, answered);
        if let Some(counter) = self.metrics().outcome(outcome) {
            counter.increment(1);
        }
        if let Some(gate) = &self.measurements.gate {
            gate.end();
        }
    }

    /// An attempt that ended without an answer: it counts for the time that it took, and as a
    /// penalty if it was the backend's fault.
    pub(super) fn unanswered(&self, took: Duration, failed: bool, now: Instant) {
        let sample = if failed { took.max(PENALTY) } else { took };
        // That somebody did not wait long says nothing.
        if failed || self.ewma().is_some_and(|usual| sample > usual) {
            self.observe(sample, now);
        }
    }

    /// The app says what it has seen of this backend itself, `count` times: it counts like what goes
    /// through here. `took`: how long an answer took, or a failure.
    pub fn report(&self, outcome: Outcome, took: Option<Duration>, count: u32, now: Instant) {
        let answered = matches!(outcome, Outcome::Success | Outcome::Http5xx | Outcome::GrpcError);
        if answered {
            self.measurements.load.answered_elsewhere(count);
        }
        for _ in 0..count {
            self.measurements.outcomes.count(self.id, outcome, answered);
        }
        if let Some(counter) = self.metrics().outcome(outcome) {
            counter.increment(count.into());
        }
        match took {
            Some(took) if outcome.is_failure() => self.observe(took.max(PENALTY), now),
            Some(took) if answered => {
                self.observe(took, now);
                self.measurements.usual.observe(took, self.millis(now));
            }
            _ => {}
        }
    }

    fn observe(&self, sample: Duration, now: Instant) {
        self.measurements.ewma.observe(sample, self.millis(now));
    }

    /// Whether there is any bound on what it gets.
    pub(super) fn is_bounded(&self) -> bool {
        self.measurements.gate.is_some()
    }

    /// Whether it has as many attempts as it may have.
    pub(super) fn is_full(&self) -> bool {
        let gate = self.measurements.gate.as_ref();
        gate.is_some_and(|gate| gate.is_full(&self.measurements.load))
    }

    /// Whether another connection to it may be opened.
    pub fn may_connect(&self) -> bool {
        let gate = self.measurements.gate.as_ref();
        gate.is_none_or(|gate| gate.may_connect(&self.measurements.connections))
    }

    /// How long it takes to the head of an answer that is no failure: the average at the time of
    /// the last one, without the penalties that `ewma` has.
    pub fn usual(&self) -> Option<Duration> {
        self.measurements.usual.get()
    }

    /// How long it takes to the head of an answer: the average at the time of the last one.
    pub fn ewma(&self) -> Option<Duration> {
        self.measurements.ewma.get()
    }

    /// As `ewma`, decayed since then.
    pub(super) fn expected(&self, now: Instant) -> Option<Duration> {
        self.measurements.ewma.read(self.millis(now))
    }

    /// Milliseconds since the cluster's epoch; they wrap.
    fn millis(&self, now: Instant) -> u32 {
        now.duration_since(self.measurements.epoch).as_millis() as u32
    }

    /// Whether the caller is the one who may try it.
    pub(super) fn begin_trial(&self) -> bool {
        let trial = &self.measurements.trial;
        !trial.load(Ordering::Relaxed) && !trial.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_trial(&self) {
        let trial = &self.measurements.trial;
        if trial.load(Ordering::Relaxed) {
            trial.store(false, Ordering::Release);
        }
    }

    /// Open connections, of all workers.
    pub fn connections(&self) -> u32 {
        self.measurements.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection for as long as the guard lives; `None` when there are as many as there
    /// may be.
    pub fn connect(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let connections = &self.measurements.connections;
        match &self.measurements.gate {
            None => drop(connections.fetch_add(1, Ordering::Relaxed)),
            Some(gate) if gate.connect(connections) => {}
            Some(_) => return None,
        }
        self.metrics().connections.increment(1);
        Some(ConnectionGuard(Arc::clone(self)))
    }

    /// Work that was ended by force since its drain began.
    pub fn forced(&self) -> u32 {
        self.measurements.forced.load(Ordering::Relaxed)
    }

    /// Counts work that is ended by force.
    pub fn force(&self) {
        self.measurements.forced.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn forget_forced(&self) {
        self.measurements.forced.store(0, Ordering::Relaxed);
    }

    pub fn last_probe(&self) -> Option<Arc<ProbeReport>> {
        self.measurements.last_probe.load_full()
    }

    pub(super) fn probed(&self, report: ProbeReport, now: Instant) {
        if report.result.is_ok() {
            self.measurements.ewma.seed(report.round_trip, self.millis(now));
        }
        self.measurements.last_probe.store(Some(Arc::new(report)));
    }
}

/// One open connection to a backend, or leave to open one.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<Backend>);

impl ConnectionGuard {
    pub fn backend(&self) -> &Backend {
        &self.0
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let measurements = &self.0.measurements;
        measurements.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(gate) = &measurements.gate {
            gate.disconnect();
        }
    }
}
