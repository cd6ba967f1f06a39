//! The single writer of a cluster's snapshots.
//!
//! Every rule about the state of backends is in [`ClusterTask::apply`], which takes an event and
//! a time and has no other input: no socket, no clock, no chance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::backend::{Backend, ProbeReport};
use super::endpoint::{Endpoint, MAX_ENDPOINTS};
use super::snapshot::{Candidates, Entry, Rules, Snapshot, State};
use super::{Cluster, EVENTS};
use crate::net::Address;
use crate::telemetry::metrics::Metrics;

/// Snapshots follow each other no faster than this; what happens in between is folded together.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);
/// A backend that leaves keeps its measurements for this long, should it come back. Below ten
/// minutes less the exporter's own delay, after which the series of a gone backend must be gone.
const REMEMBER: Duration = Duration::from_secs(180);

/// Something that may change a cluster.
#[derive(Debug)]
pub enum Event {
    /// The source answered: this is the whole set.
    Discovered { at: SystemTime, endpoints: Vec<Endpoint> },
    /// The source failed, since then.
    DiscoveryFailed { at: SystemTime, error: String },
    /// A probe of the backend with this id ended.
    Probed { id: u64, report: ProbeReport },
}

/// Owns everything about a cluster that changes.
#[derive(Debug)]
pub struct ClusterTask {
    cluster: Arc<Cluster>,
    inbox: mpsc::Receiver<Event>,
    announce: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    members: BTreeMap<Address, Member>,
    departed: BTreeMap<Address, (Arc<Backend>, Instant)>,
    next_id: u64,
    answered: bool,
    stale_since: Option<SystemTime>,
    /// When backends that were never probed are used for want of others.
    pending_until: Instant,
    /// Whether the published snapshot is out of date.
    changed: bool,
    published: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    backend: Arc<Backend>,
    state: State,
    /// Probes in a row that speak against `state`.
    streak: u16,
}

impl ClusterTask {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        inbox: mpsc::Receiver<Event>,
        announce: watch::Sender<u64>,
        metrics: Arc<Metrics>,
        pending_until: Instant,
    ) -> Self {
        Self {
            cluster,
            inbox,
            announce,
            metrics,
            members: BTreeMap::new(),
            departed: BTreeMap::new(),
            next_id: 1,
            answered: false,
            stale_since: None,
            pending_until,
            changed: false,
            published: None,
        }
    }

    /// Gives the cluster its first backends before it runs, when they are known already.
    pub fn seed(&mut self, endpoints: Vec<Endpoint>) {
        let now = Instant::now();
        self.apply(Event::Discovered { at: SystemTime::now(), endpoints }, now);
        self.tick(now);
    }

    /// Applies events and publishes snapshots for as long as the runtime lives.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let wake = self.next_wake();
            tokio::select! {
                _ = self.inbox.recv_many(&mut batch, EVENTS) => {}
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            for event in batch.drain(..) {
                self.apply(event, now);
            }
            self.tick(now);
        }
    }

    /// Takes in one event.
    pub(super) fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Discovered { at, endpoints } => self.discovered(at, endpoints, now),
            Event::DiscoveryFailed { at, error } => self.discovery_failed(at, &error),
            Event::Probed { id, report } => self.probed(id, report),
        }
    }

    /// Lets time pass, and publishes what has changed.
    pub(super) fn tick(&mut self, now: Instant) {
        self.departed.retain(|_, (_, until)| *until > now);
        if self.published.is_some_and(|at| at < self.pending_until && self.pending_until <= now) {
            self.changed = true;
        }
        let due = self.published.is_none_or(|at| at + PUBLISH_EVERY <= now);
        if self.changed && due {
            self.publish(now);
        }
    }

    /// When `tick` has something to do even without an event.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let published = self.published?;
        let publish = self.changed.then_some(published + PUBLISH_EVERY);
        let pending = (published < self.pending_until).then_some(self.pending_until);
        let forget = self.departed.values().map(|(_, until)| *until).min();
        [publish, pending, forget].into_iter().flatten().min()
    }

    fn discovered(&mut self, at: SystemTime, endpoints: Vec<Endpoint>, now: Instant) {
        let (endpoints, left_out) = Endpoint::merge(endpoints);
        let metrics = Arc::clone(&self.cluster.metrics);
        if left_out > 0 {
            tracing::warn!(
                cluster = self.cluster.name(),
                left_out,
                "discovery gave too many endpoints"
            );
        }
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
        metrics.last_success.set(since_epoch.unwrap_or_default().as_secs_f64());

        let unchanged = self.answered
            && self.members.values().map(|member| &member.backend.endpoint).eq(endpoints.values());
        if unchanged {
            metrics.updates_unchanged.increment(1);
        } else {
            metrics.updates_changed.increment(1);
            self.replace_members(endpoints, now);
        }
        self.changed |= !unchanged || self.stale_since.is_some();
        self.answered = true;
        self.stale_since = None;
    }

    fn replace_members(&mut self, endpoints: BTreeMap<Address, Endpoint>, now: Instant) {
        let cluster = self.cluster.name();
        let mut before = std::mem::take(&mut self.members);
        let (mut joined, total) = (0, endpoints.len());
        for (address, endpoint) in endpoints {
            let member = match before.remove(&address) {
                Some(member) if member.backend.endpoint == endpoint => member,
                Some(member) => {
                    let backend = Arc::new(member.backend.with_endpoint(endpoint));
                    Member { backend, ..member }
                }
                None => {
                    joined += 1;
                    let backend = match self.departed.remove(&address) {
                        Some((known, _)) => known.with_endpoint(endpoint),
                        None => {
                            self.next_id += 1;
                            Backend::new(self.next_id, endpoint, cluster, &self.metrics)
                        }
                    };
                    let checked = self.cluster.settings.health.is_some();
                    let state = if checked { State::Pending } else { State::Ready };
                    Member { backend: Arc::new(backend), state, streak: 0 }
                }
            };
            self.members.insert(address, member);
        }
        tracing::info!(cluster, joined, left = before.len(), total, "backends changed");
        for (address, member) in before {
            self.departed.insert(address, (member.backend, now + REMEMBER));
        }
        while self.departed.len() > MAX_ENDPOINTS {
            self.departed.pop_first();
        }
    }

    fn discovery_failed(&mut self, at: SystemTime, error: &str) {
        self.cluster.metrics.updates_failed.increment(1);
        if self.stale_since.is_none() {
            let (cluster, kept) = (self.cluster.name(), self.members.len());
            tracing::warn!(cluster, error, kept, "discovery failed, keeping the last answer");
            self.stale_since = Some(at);
            self.changed = true;
        }
    }

    fn probed(&mut self, id: u64, report: ProbeReport) {
        let Some(health) = &self.cluster.settings.health else { return };
        // A late verdict about a backend that has left is of no use.
        let Some(member) = self.members.values_mut().find(|m| m.backend.id == id) else { return };
        let passed = report.result.is_ok();
        let metrics = &self.cluster.metrics;
        if passed { &metrics.probes_passed } else { &metrics.probes_failed }.increment(1);

        let needed = match (member.state, passed) {
            (State::Ready, true) | (State::Unhealthy, false) => None,
            (State::Pending, _) => Some(1),
            (State::Unhealthy, true) => Some(health.rise),
            (State::Ready, false) => Some(health.fall),
        };
        member.streak = if needed.is_some() { member.streak + 1 } else { 0 };
        if needed.is_some_and(|needed| member.streak >= needed) {
            member.state = if passed { State::Ready } else { State::Unhealthy };
            member.streak = 0;
            let (cluster, backend) = (self.cluster.name(), &member.backend.name);
            match &report.result {
                Ok(()) => tracing::info!(cluster, %backend, "healthy"),
                Err(reason) => tracing::warn!(cluster, %backend, reason, "unhealthy"),
            }
            self.changed = true;
        }
        member.backend.probed(report);
    }

    fn publish(&mut self, now: Instant) {
        let entries: Box<[Entry]> = self
            .members
            .values()
            .map(|member| Entry { backend: Arc::clone(&member.backend), state: member.state })
            .collect();
        let rules = Rules {
            panic_allowed: self.cluster.settings.panic_threshold > 0,
            probes_awaited: now < self.pending_until,
        };
        let candidates = Candidates::choose(&entries, rules);
        let before = self.cluster.snapshot.load();
        if candidates.panic && !before.candidates.panic {
            let cluster = self.cluster.name();
            tracing::warn!(cluster, "every backend fails its probes, using them all the same");
        }
        let version = before.version + 1;
        let mut snapshot = Snapshot::new(version, entries, candidates);
        snapshot.answered = self.answered;
        snapshot.stale_since = self.stale_since;
        self.cluster.snapshot.store(Arc::new(snapshot));
        self.announce.send_replace(version);
        self.changed = false;
        self.published = Some(now);
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
