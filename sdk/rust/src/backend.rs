//! Clusters and backends as the sidecar sees them.

use std::time::{Duration, SystemTime};

pub use outrigger_proto::v1::State;
use outrigger_proto::v1::{self, order::Kind};
use prost_types::Timestamp;

/// A named set of interchangeable backends.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub name: String,
    /// `round_robin`, `least_request`, `peak_ewma` or `random`.
    pub policy: String,
    /// Counts up with every change.
    pub version: u64,
    /// Whether backends in doubt are used because too few others are left.
    pub panic: bool,
    /// Since when the source has failed to confirm the backends; `None` while it does.
    pub stale_since: Option<SystemTime>,
    pub backends: Vec<Backend>,
    /// How many keys are pinned.
    pub pins: u32,
}

/// A backend at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Its address: `10.0.0.1:80`, `[2001:db8::1]:80` or `unix:/run/app.sock`.
    pub name: String,
    /// The first that holds.
    pub state: State,
    /// Why it is not ready, or not for long; empty if it is.
    pub reason: String,
    /// The tier: lower numbers first.
    pub priority: u32,
    /// The weight that discovery gives it.
    pub configured_weight: f64,
    /// The weight that it has now, with orders and slow start.
    pub effective_weight: f64,
    /// Its share among picks, relative to the shares of the others; 0: it gets no new picks.
    pub share: u32,
    /// What is under way at it from this sidecar. Not kept up to date by a watch.
    pub in_flight: u32,
    /// Average time to the head of an answer; `None` before the first. Not kept up to date by a watch.
    pub ewma: Option<Duration>,
    /// The kind of source that knows of it: `static`, `file`, `dns`, `dns_srv`, `consul`.
    pub source: String,
    /// When what is left of its work is ended by force; set while it drains.
    pub drain_deadline: Option<SystemTime>,
    /// Whether it drains and nothing of its work is left.
    pub drained: bool,
    /// The orders that act on it, but for pins.
    pub orders: Vec<Order>,
    /// How many keys are pinned to it.
    pub pins: u32,
}

/// An override that somebody has ordered.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// `admin` for operators, `fleet` for orders to all sidecars, else what the app calls itself.
    pub owner: String,
    pub change: Change,
    /// When it ends by itself; `None` if it ends with a lease, or when it is taken back.
    pub expires_at: Option<SystemTime>,
    /// Whether it ends with a lease.
    pub leased: bool,
}

/// What an order changes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// The weight instead of discovery's.
    Weight(u32),
    /// What the weight is multiplied by.
    Factor(f64),
    Drain,
    Pin,
    /// Something that this version of the SDK does not know.
    Unknown,
}

impl From<v1::Cluster> for Cluster {
    fn from(cluster: v1::Cluster) -> Self {
        Self {
            name: cluster.name,
            policy: cluster.policy,
            version: cluster.version,
            panic: cluster.panic,
            stale_since: cluster.stale_since.and_then(time),
            backends: cluster.backends.into_iter().map(Backend::from).collect(),
            pins: cluster.pins,
        }
    }
}

impl From<v1::Backend> for Backend {
    fn from(backend: v1::Backend) -> Self {
        Self {
            state: backend.state(),
            name: backend.name,
            reason: backend.reason,
            priority: backend.priority,
            configured_weight: backend.configured_weight,
            effective_weight: backend.effective_weight,
            share: backend.share,
            in_flight: backend.in_flight,
            ewma: backend.ewma.and_then(|ewma| ewma.try_into().ok()),
            source: backend.source,
            drain_deadline: backend.drain_deadline.and_then(time),
            drained: backend.drained,
            orders: backend.orders.into_iter().map(Order::from).collect(),
            pins: backend.pins,
        }
    }
}

impl From<v1::Order> for Order {
    fn from(order: v1::Order) -> Self {
        let change = match order.kind {
            Some(Kind::Weight(weight)) => Change::Weight(weight),
            Some(Kind::Factor(factor)) => Change::Factor(factor),
            Some(Kind::Drain(_)) => Change::Drain,
            Some(Kind::Pin(_)) => Change::Pin,
            None => Change::Unknown,
        };
        let expires_at = order.expires_at.and_then(time);
        Self { owner: order.owner, change, expires_at, leased: order.leased }
    }
}

/// `None` for what no clock shows.
pub(crate) fn time(timestamp: Timestamp) -> Option<SystemTime> {
    timestamp.try_into().ok()
}
