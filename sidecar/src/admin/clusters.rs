//! `GET /api/v1/clusters`: every cluster and backend. The command line reads the same types.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::{
    Clock, Cluster, Entry, Leaving, Ordering, ProbeReport, ShownOrder, rfc3339, weight,
};

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
        let clock = Clock::now();
        Self {
            name: backend.name.to_string(),
            state: entry.state().name().into(),
            reason: entry.reason(&clock),
            priority: backend.endpoint.priority,
            weight: WeightView {
                configured: weight(backend.endpoint.weight),
                effective: weight(entry.weight),
            },
            in_flight: backend.in_flight(),
            ewma_seconds: backend.ewma().map(|ewma| ewma.as_secs_f64()),
            source: source.into(),
            suspect_until: entry.suspect_until.map(|until| rfc3339(clock.wall(until))),
            last_probe: backend.last_probe().as_deref().map(ProbeView::of),
            drain_deadline: entry.leaving.map(|leaving| rfc3339(clock.wall(leaving.deadline))),
            drain: entry.leaving.map(|leaving| DrainView::of(entry, leaving)),
            orders: entry.orders().map(|order| OrderView::of(&order, &clock)).collect(),
        }
    }
}

impl OrderView {
    fn of(order: &ShownOrder, clock: &Clock) -> Self {
        let (kind, weight, factor) = match order.what {
            Ordering::Drain => ("drain", None, None),
            Ordering::Weight(weight) => ("weight", Some(weight), None),
            Ordering::Factor(factor) => ("factor", None, Some(factor)),
        };
        Self {
            owner: order.owner.to_string(),
            kind: kind.into(),
            weight,
            factor,
            expires_at: order.until.map(|until| rfc3339(clock.wall(until))),
            leased: order.leased,
        }
    }
}

impl DrainView {
    fn of(entry: &Entry, leaving: Leaving) -> Self {
        let affinity = leaving.keeps_affinity;
        Self { done: leaving.done, affinity, forced: entry.backend.forced() }
    }
}

impl ProbeView {
    fn of(report: &ProbeReport) -> Self {
        let result = if report.result.is_ok() { "pass" } else { "fail" };
        let detail = report.result.clone().err().unwrap_or_default();
        Self { at: rfc3339(report.at), result: result.into(), detail }
    }
}
