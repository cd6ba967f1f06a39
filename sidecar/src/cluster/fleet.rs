//! Orders for the whole fleet: every sidecar that finds them where they are written obeys.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

/// All orders for the backends of a cluster, by the backend's name, its target's or its node's.
pub type FleetOrders = BTreeMap<String, FleetOrder>;

/// What is wanted of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetOrder {
    /// Instead of the weight that discovery gives.
    pub weight: Option<u16>,
    pub drain: Option<FleetDrain>,
}

impl FleetOrder {
    /// This one, and of the other what this one says nothing of.
    pub(super) fn or(self, other: Self) -> Self {
        Self { weight: self.weight.or(other.weight), drain: self.drain.or(other.drain) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetDrain {
    /// `None`: the cluster's own.
    pub timeout: Option<Duration>,
}

/// A change of a backend's order, and where its outcome is awaited.
#[derive(Debug)]
pub struct FleetWrite {
    pub cluster: String,
    /// As the cluster names it.
    pub backend: String,
    pub change: FleetChange,
    /// Why it could not be written.
    pub reply: oneshot::Sender<Result<(), String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetChange {
    Drain(FleetDrain),
    Resume,
    Weight(u16),
    /// Back to what discovery says.
    ResetWeight,
}
