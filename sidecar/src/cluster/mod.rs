//! The model: clusters, their backends, and who may be picked now.
//!
//! Decisions live in an immutable [`Snapshot`] that one task per cluster writes
//! ([`ClusterTask`]); measurements live as atomics on [`Backend`] and are written by everyone.
//! Whoever reads does so without a lock; whoever has something to say sends an [`Event`].
//! Nothing here opens a socket, asks DNS or knows HTTP.

pub mod affinity;
mod answer;
mod backend;
mod budget;
mod candidates;
mod drain;
mod endpoint;
mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod fleet;
mod history;
mod keyed;
mod lead;
mod limits;
mod load;
mod member;
mod members;
mod order;
mod ordered;
mod outcomes;
mod outlier;
mod owner;
mod pick;
mod shown;
mod slow_start;
mod snapshot;
mod sources;
mod stall;
mod task;
mod tiers;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub use answer::Answer;
pub use backend::{Backend, ConnectionGuard, ProbeReport};
pub use budget::Budget;
pub use drain::{Cut, Leaving};
pub use endpoint::{Endpoint, MAX_ENDPOINTS, Reported, WEIGHT_ONE};
pub use explain::{Explained, Explanation};
pub use fleet::{FleetChange, FleetDrain, FleetOrder, FleetOrders, FleetWrite};
pub use history::{Happened, History};
pub use lead::{Key, Reason, Whereabouts};
pub use limits::{Gate, Waiting};
pub use order::{Carried, Order, OrderError, What};
pub use ordered::{Given, Ordered, Override};
pub use outlier::Ejection;
pub use owner::{Lease, Owner};
pub use pick::{NoPick, Pick, Picker, Wish};
pub use shown::{Clock, Ordering, ShownOrder, rfc3339, weight};
pub use snapshot::{Entry, Snapshot, State, Verdict};
pub use task::{ClusterTask, Event, Pinning, Unpinning};

use affinity::{Keyring, Learned, Pins};
use backend::Shared;
use outcomes::Alarm;

use crate::config::{self, AffinityKey, Source};
use crate::net::tls::client::Client;
use crate::telemetry::metrics::{BackendRow, ClusterMetrics, Metrics};

/// Events that wait for the task of a cluster. Senders wait when it is full, except those that
/// have a later chance to say the same.
const EVENTS: usize = 1024;
/// How long a learned key without a TTL is remembered.
const LEARNED: Duration = Duration::from_secs(24 * 3600);

/// A cluster as the rest of the sidecar holds it.
#[derive(Debug)]
pub struct Cluster {
    pub settings: Arc<config::Cluster>,
    pub metrics: Arc<ClusterMetrics>,
    pub budget: Budget,
    /// `None`: there is no bound.
    pub gate: Option<Arc<Gate>>,
    /// `None`: no key is learned.
    pub learned: Option<Learned>,
    /// What apps have bound to backends themselves.
    pub pins: Pins,
    /// Signs and verifies cookies; `None` where there are none.
    pub keyring: Option<Arc<Keyring>>,
    /// Speaks TLS to backends; `None`: they are spoken to in the clear.
    pub tls: Option<Arc<Client>>,
    snapshot: ArcSwap<Snapshot>,
    events: mpsc::Sender<Event>,
    version: watch::Receiver<u64>,
}

impl Cluster {
    /// A cluster and the task that writes its snapshots, to be run by the caller. The keyring is
    /// for clusters whose clients have cookies.
    pub fn new(
        settings: Arc<config::Cluster>,
        start_timeout: Duration,
        metrics: &Arc<Metrics>,
        history: &Arc<History>,
        keyring: Option<Arc<Keyring>>,
        tls: Option<Arc<Client>>,
    ) -> (Arc<Self>, ClusterTask) {
        let (events, inbox) = mpsc::channel(EVENTS);
        let (announce, version) = watch::channel(0);
        let epoch = Instant::now();
        let affinity = &settings.affinity;
        let cluster = Arc::new(Self {
            metrics: metrics.cluster(&settings.name, settings.sources.iter().map(Source::kind)),
            budget: Budget::new(&settings.retry),
            gate: settings.limits.any().then(|| Arc::new(Gate::new(&settings.limits))),
            learned: affinity.learns().then(|| Learned::new(affinity.ttl.unwrap_or(LEARNED))),
            pins: Pins::default(),
            keyring: keyring.filter(|_| matches!(affinity.key, AffinityKey::Cookie(_))),
            tls,
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            events: events.clone(),
            version,
            settings,
        });
        let settings = &cluster.settings;
        let alarm = settings.outlier.as_ref().map(|rules| {
            let (consecutive, consecutive_connect) = (rules.consecutive, rules.consecutive_connect);
            Arc::new(Alarm { events, consecutive, consecutive_connect })
        });
        let shared = Shared {
            cluster: Arc::clone(&settings.name),
            metrics: Arc::clone(metrics),
            history: Arc::clone(history),
            affinity: cluster.keyring.clone(),
            alarm,
            gate: cluster.gate.clone(),
            epoch,
        };
        let pending_until = epoch + start_timeout;
        let task = ClusterTask::new(Arc::clone(&cluster), inbox, announce, shared, pending_until);
        (cluster, task)
    }

    /// Whether there is room for another request, whatever backend it goes to.
    fn has_room(&self) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.has_room())
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

    /// Sends an event that is answered, and waits for the answer; `None`: the task has ended.
    pub async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Waits until all that its task has been told is shown; without a task there is nothing to wait for.
    pub async fn settled(&self) {
        self.ask(Event::Await).await;
    }

    /// Sets the gauges that follow from the current view.
    pub fn report(&self) {
        let snapshot = self.snapshot();
        self.metrics.eligible.set(snapshot.candidates.eligible as f64);
        self.metrics.panic.set(f64::from(u8::from(snapshot.candidates.panic)));
        let stale = snapshot.stale_since.and_then(|since| since.elapsed().ok());
        self.metrics.stale.set(stale.unwrap_or_default().as_secs_f64());
    }

    /// What the gauges of its backends say.
    pub fn rows(&self) -> Vec<BackendRow> {
        let row = |entry: &Entry| {
            let state = entry.state().name();
            let mut row = BackendRow::new(self.name(), &entry.backend.name, state);
            row.weight = f64::from(entry.weight) / f64::from(WEIGHT_ONE);
            row.in_flight = entry.backend.in_flight();
            row.connections = entry.backend.connections();
            row
        };
        self.snapshot().entries.iter().map(row).collect()
    }
}
