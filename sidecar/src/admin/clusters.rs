//! `GET /api/v1/clusters`: every cluster and backend. The command line reads the same types.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Entry, ProbeReport, State, WEIGHT_ONE};

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
    /// Whether backends that fail their probes are used for want of others.
    pub panic: bool,
    /// RFC 3339; since when the source has failed to confirm the backends.
    pub stale_since: Option<String>,
    pub backends: Vec<BackendView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct BackendView {
    pub name: String,
    pub state: String,
    /// Why it is not ready.
    pub reason: String,
    pub priority: u16,
    pub weight: WeightView,
    pub in_flight: u32,
    /// No policy of this version measures it.
    pub ewma_seconds: Option<f64>,
    pub source: String,
    pub last_probe: Option<ProbeView>,
    /// RFC 3339; no backend of this version drains.
    pub drain_deadline: Option<String>,
    /// No order can be given to this version.
    pub orders: Vec<serde_json::Value>,
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
        let source = cluster.settings.source.kind();
        Self {
            name: cluster.name().into(),
            version: snapshot.version,
            policy: cluster.settings.policy.name().into(),
            panic: snapshot.candidates.panic,
            stale_since: snapshot.stale_since.map(rfc3339),
            backends: snapshot.entries.iter().map(|entry| BackendView::of(entry, source)).collect(),
        }
    }
}

impl BackendView {
    fn of(entry: &Entry, source: &str) -> Self {
        let backend = &entry.backend;
        let last_probe = backend.last_probe();
        let reason = match (entry.state, &last_probe) {
            (State::Ready, _) => String::new(),
            (State::Pending, _) => "not probed yet".into(),
            (State::Unhealthy, Some(report)) => report.result.clone().err().unwrap_or_default(),
            (State::Unhealthy, None) => String::new(),
        };
        let weight = f64::from(backend.endpoint.weight) / f64::from(WEIGHT_ONE);
        Self {
            name: backend.name.to_string(),
            state: entry.state.name().into(),
            reason,
            priority: backend.endpoint.priority,
            weight: WeightView { configured: weight, effective: weight },
            in_flight: backend.in_flight(),
            ewma_seconds: None,
            source: source.into(),
            last_probe: last_probe.as_deref().map(ProbeView::of),
            drain_deadline: None,
            orders: Vec::new(),
        }
    }
}

impl ProbeView {
    fn of(report: &ProbeReport) -> Self {
        let result = if report.result.is_ok() { "pass" } else { "fail" };
        let detail = report.result.clone().err().unwrap_or_default();
        Self { at: rfc3339(report.at), result: result.into(), detail }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
