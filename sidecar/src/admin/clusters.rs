//! `GET /api/v1/clusters`: every cluster and backend. The command line reads the same types.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cluster::{Cluster, Entry, Given, Leaving, Override, ProbeReport, State, WEIGHT_ONE};

#[derive(Debug, Serialize, Deserialize)]
pub struct ClustersView {
    pub clusters: Vec<ClusterView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ClusterView {
    pub name: String,
    /// Counts up with every change of the cluster.
    pub version: u64,
    pub policy: String,
    /// Whether backends in doubt are used because too few others are left.
    pub panic: bool,
    /// RFC 3339; since when the source has failed to confirm the backends.
    pub stale_since: Option<String>,
    /// The kind of the source that the backends are from; empty before there was an answer.
    #[serde(default)]
    pub source: String,
    /// Whether they are what the source had said before the last start.
    #[serde(default)]
    pub remembered: bool,
    pub backends: Vec<BackendView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct BackendView {
    pub name: String,
    pub state: String,
    /// Why it is not ready, or not for long.
    pub reason: String,
    pub priority: u16,
    pub weight: WeightView,
    pub in_flight: u32,
    /// Average time to the head of an answer, with more weight for late ones; null before the
    /// first.
    pub ewma_seconds: Option<f64>,
    pub source: String,
    /// RFC 3339; discovery has dropped it with too many others to be believed before that.
    #[serde(default)]
    pub suspect_until: Option<String>,
    pub last_probe: Option<ProbeView>,
    /// RFC 3339; when what is left of its work is ended by force.
    pub drain_deadline: Option<String>,
    /// How far its drain is; null while it does not drain.
    pub drain: Option<DrainView>,
    pub orders: Vec<OrderView>,
}

/// An override that holds until it is taken back.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderView {
    /// `admin`: it came over this API; `fleet`: it is for all sidecars, from Consul; else what the app
    /// calls itself.
    pub owner: String,
    /// `drain`, `weight` or `factor`.
    pub kind: String,
    /// Of a `weight`.
    #[serde(default)]
    pub weight: Option<u16>,
    /// Of a `factor`: what the weight is multiplied by.
    #[serde(default)]
    pub factor: Option<f64>,
    /// RFC 3339; null: it ends with its lease, when it is taken back, or with the process.
    pub expires_at: Option<String>,
    /// Whether it ends with a lease.
    #[serde(default)]
    pub leased: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct DrainView {
    /// Whether nothing of its work is left, and nothing will come.
    pub done: bool,
    /// Whether work whose affinity names it may still arrive.
    pub affinity: bool,
    /// How much of its work was ended by force.
    pub forced: u32,
}

/// Fractions come from a weight that several addresses of a target share.
#[derive(Debug, Serialize, Deserialize)]
pub struct WeightView {
    pub configured: f64,
    pub effective: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProbeView {
    /// RFC 3339.
    pub at: String,
    /// `pass` or `fail`.
    pub result: String,
    pub detail: String,
}

pub(super) fn view(clusters: &[Arc<Cluster>]) -> ClustersView {
    ClustersView { clusters: clusters.iter().map(|cluster| ClusterView::of(cluster)).collect() }
}

impl ClusterView {
    fn of(cluster: &Cluster) -> Self {
        let snapshot = cluster.snapshot();
        let source = cluster.settings.source_kind(snapshot.source);
        Self {
            name: cluster.name().into(),
            version: snapshot.version,
            policy: cluster.settings.policy.name().into(),
            panic: snapshot.candidates.panic,
            stale_since: snapshot.stale_since.map(rfc3339),
            source: source.into(),
            remembered: snapshot.from_memory,
            backends: snapshot.entries.iter().map(|entry| BackendView::of(entry, source)).collect(),
        }
    }
}

impl BackendView {
    pub(super) fn of(entry: &Entry, source: &str) -> Self {
        let backend = &entry.backend;
        let last_probe = backend.last_probe();
        let weight = |weight: u32| f64::from(weight) / f64::from(WEIGHT_ONE);
        Self {
            name: backend.name.to_string(),
            state: entry.state().name().into(),
            reason: reason(entry, last_probe.as_deref()),
            priority: backend.endpoint.priority,
            weight: WeightView {
                configured: weight(backend.endpoint.weight),
                effective: weight(entry.weight),
            },
            in_flight: backend.in_flight(),
            ewma_seconds: backend.ewma().map(|ewma| ewma.as_secs_f64()),
            source: source.into(),
            suspect_until: entry.suspect_until.map(|until| rfc3339(wall(until))),
            last_probe: last_probe.as_deref().map(ProbeView::of),
            drain_deadline: entry.leaving.map(|leaving| rfc3339(wall(leaving.deadline))),
            drain: entry.leaving.map(|leaving| DrainView::of(entry, leaving)),
            orders: OrderView::all(entry),
        }
    }
}

/// Why it is not ready.
fn reason(entry: &Entry, last_probe: Option<&ProbeReport>) -> String {
    match (entry.state(), entry.ejection) {
        (State::Ready, _) => match entry.suspect_until {
            Some(until) => format!("dropped by discovery, until {}", rfc3339(wall(until))),
            None => String::new(),
        },
        (State::Pending, _) => "not probed yet".into(),
        (State::Unhealthy, _) if entry.is_critical() => "critical, as its source says".into(),
        (State::Unhealthy, _) => {
            last_probe.and_then(|report| report.result.clone().err()).unwrap_or_default()
        }
        (State::Ejected, Some(ejection)) => {
            let until = rfc3339(wall(ejection.until));
            format!("{} until {until}", ejection.reason.name())
        }
        (State::Ejected, None) => "stalled: it takes work and answers none".into(),
        (State::Draining, _) => match entry.leaving {
            Some(leaving) if leaving.done => "drained".into(),
            Some(leaving) => {
                format!("{}, until {}", leaving.cause.describe(), rfc3339(wall(leaving.deadline)))
            }
            None => String::new(),
        },
    }
}

impl OrderView {
    fn all(entry: &Entry) -> Vec<Self> {
        let fleet_drains = entry.leaving.is_some_and(|leaving| leaving.fleet);
        let fleet = [
            fleet_drains.then(|| Self::new("fleet", Kind::Drain)),
            entry.ordered.fleet.map(|weight| Self::new("fleet", Kind::Weight(weight))),
        ];
        entry.ordered.own().iter().map(Self::of).chain(fleet.into_iter().flatten()).collect()
    }

    fn of(given: &Given) -> Self {
        let kind = match given.what {
            Override::Weight(weight) => Kind::Weight(weight),
            Override::Factor(factor) => Kind::Factor(f64::from(factor) / f64::from(WEIGHT_ONE)),
            Override::Drain(_) => Kind::Drain,
        };
        Self {
            expires_at: given.until.map(|until| rfc3339(wall(until))),
            leased: given.owner.lease.is_some(),
            ..Self::new(&given.owner.name, kind)
        }
    }

    fn new(owner: &str, kind: Kind) -> Self {
        let (kind, weight, factor) = match kind {
            Kind::Drain => ("drain", None, None),
            Kind::Weight(weight) => ("weight", Some(weight), None),
            Kind::Factor(factor) => ("factor", None, Some(factor)),
        };
        let (owner, kind) = (owner.into(), kind.into());
        Self { owner, kind, weight, factor, expires_at: None, leased: false }
    }
}

/// What an order changes, as it is shown.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Drain,
    Weight(u16),
    Factor(f64),
}

impl DrainView {
    fn of(entry: &Entry, leaving: Leaving) -> Self {
        let affinity = leaving.keeps_affinity;
        Self { done: leaving.done, affinity, forced: entry.backend.forced() }
    }
}

/// The wall clock's time of an instant.
fn wall(at: Instant) -> SystemTime {
    let now = Instant::now();
    match at.checked_duration_since(now) {
        Some(ahead) => SystemTime::now() + ahead,
        None => SystemTime::now() - now.duration_since(at),
    }
}

impl ProbeView {
    fn of(report: &ProbeReport) -> Self {
        let result = if report.result.is_ok() { "pass" } else { "fail" };
        let detail = report.result.clone().err().unwrap_or_default();
        Self { at: rfc3339(report.at), result: result.into(), detail }
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
