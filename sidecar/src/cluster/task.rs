//! The single writer of a cluster's snapshots.
//!
//! Every rule about the state of backends is in [`ClusterTask::apply`] and [`ClusterTask::tick`],
//! which take an event and a time and have no other input: no socket, no clock, no chance.

mod sweep;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::answer::Answer;
use super::backend::{ProbeReport, Shared};
use super::budget::Ledger;
use super::candidates::{Candidates, Rules};
use super::drain::Cut;
use super::endpoint::Endpoint;
use super::keyed::{Keyed, Tables};
use super::member::Member;
use super::members::Members;
use super::order::{Order, Replies};
use super::outlier::Room;
use super::snapshot::{Entry, Snapshot};
use super::{Cluster, EVENTS};
use crate::config;
use crate::telemetry::metrics::{DrainResult, EjectionReason, Update};

/// Snapshots follow each other no faster than this; what happens in between is folded together.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);

/// Something that may change a cluster.
#[derive(Debug)]
pub enum Event {
    /// A source answered.
    Discovered(Answer),
    /// A source, by its place in the configuration, failed.
    DiscoveryFailed { source: usize, at: SystemTime, error: String },
    /// A probe of the backend with this id ended.
    Probed { id: u64, report: ProbeReport },
    /// Traffic has met too many failures in a row at the backend with this id.
    Suspect { id: u64 },
    /// The request that was to show whether an ejected backend has recovered has shown it.
    Trial { id: u64, passed: bool },
    /// An operator wants something.
    Order(Order),
    /// A table for hashed keys is ready.
    Built(Arc<Keyed>),
}

/// Owns everything about a cluster that changes.
#[derive(Debug)]
pub struct ClusterTask {
    cluster: Arc<Cluster>,
    inbox: mpsc::Receiver<Event>,
    announce: watch::Sender<u64>,
    shared: Shared,
    members: Members,
    ledger: Ledger,
    tables: Tables,
    replies: Replies,
    answered: bool,
    stale_since: Option<SystemTime>,
    /// When backends that were never probed are used for want of others.
    pending_until: Instant,
    /// Whether the published snapshot is out of date.
    changed: bool,
    published: Option<Instant>,
    swept: Instant,
    /// When weights that grow were last published.
    grown: Instant,
}

impl ClusterTask {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        inbox: mpsc::Receiver<Event>,
        announce: watch::Sender<u64>,
        shared: Shared,
        pending_until: Instant,
    ) -> Self {
        let now = shared.epoch;
        Self {
            tables: Tables::new(cluster.settings.affinity.hashes()),
            cluster,
            inbox,
            announce,
            shared,
            members: Members::default(),
            ledger: Ledger::new(now),
            replies: Replies::default(),
            answered: false,
            stale_since: None,
            pending_until,
            changed: false,
            published: None,
            swept: now,
            grown: now,
        }
    }

    /// Gives the cluster its first backends before it runs, when they are known already.
    pub fn seed(&mut self, source: usize, endpoints: Vec<Endpoint>) {
        let now = Instant::now();
        self.apply(Event::Discovered(Answer::new(source, SystemTime::now(), endpoints)), now);
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
            if let Some(members) = self.tables.wanted(now) {
                let events = self.cluster.events();
                tokio::task::spawn_blocking(move || {
                    let _ = events.blocking_send(Event::Built(Arc::new(members.build())));
                });
            }
        }
    }

    /// Takes in one event.
    pub(super) fn apply(&mut self, event: Event, now: Instant) {
        match event {
            Event::Discovered(answer) => self.discovered(answer, now),
            Event::DiscoveryFailed { source, at, error } => {
                self.discovery_failed(source, at, &error);
            }
            Event::Probed { id, report } => self.probed(id, report, now),
            Event::Suspect { id } => self.suspect(id, now),
            Event::Trial { id, passed } => self.tried(id, passed, now),
            Event::Order(order) => self.order(order, now),
            Event::Built(keyed) => {
                self.tables.built(keyed);
                self.changed = true;
            }
        }
    }

    /// Lets time pass, and publishes what has changed.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.published.is_some_and(|at| at < self.pending_until && self.pending_until <= now) {
            self.changed = true;
        }
        if now >= self.swept + sweep::EVERY {
            self.sweep(now);
        }
        self.members.forget(now);
        let due = self.published.is_none_or(|at| at + PUBLISH_EVERY <= now);
        if self.changed && due {
            self.publish(now);
        }
    }

    /// When `tick` has something to do even without an event.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let published = self.published?;
        let publish = self.changed.then_some(published + PUBLISH_EVERY);
        // What has changed is published soon, and with it what pending backends are used for.
        let awaited = published < self.pending_until && !self.changed;
        let pending = awaited.then_some(self.pending_until);
        let forget = self.members.next_forgotten();
        let sweep = self.members.iter().next().map(|_| self.swept + sweep::EVERY);
        [publish, pending, forget, sweep].into_iter().flatten().min()
    }

    fn discovered(&mut self, answer: Answer, now: Instant) {
        let Answer { source, at, endpoints, .. } = answer;
        let (endpoints, left_out) = Endpoint::merge(endpoints);
        let cluster = Arc::clone(&self.cluster);
        let (name, metrics) = (cluster.name(), &cluster.metrics);
        if left_out > 0 {
            tracing::warn!(cluster = name, left_out, "discovery gave too many endpoints");
        }
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
        metrics.last_success.set(since_epoch.unwrap_or_default().as_secs_f64());

        let unchanged = self.answered && self.members.are(&endpoints);
        if unchanged {
            metrics.updated(source, Update::Unchanged);
        } else {
            metrics.updated(source, Update::Changed);
            // Whoever comes with the first backends is not late.
            let (total, late) = (endpoints.len(), self.members.ever_any());
            let change =
                self.members.replace(endpoints, &cluster.settings, &self.shared, late, now);
            let (joined, left) = (change.joined, change.left);
            tracing::info!(cluster = name, joined, left, total, "backends changed");
            metrics.drain(DrainResult::Cancelled).increment(change.returned as u64);
        }
        self.changed |= !unchanged || self.stale_since.is_some();
        self.answered = true;
        self.stale_since = None;
    }

    fn discovery_failed(&mut self, source: usize, at: SystemTime, error: &str) {
        self.cluster.metrics.updated(source, Update::Failure);
        if self.stale_since.is_none() {
            let (cluster, kept) = (self.cluster.name(), self.members.iter().count());
            tracing::warn!(cluster, error, kept, "discovery failed, keeping the last answer");
            self.stale_since = Some(at);
            self.changed = true;
        }
    }

    fn probed(&mut self, id: u64, report: ProbeReport, now: Instant) {
        let Some(health) = &self.cluster.settings.health else { return };
        // A late verdict about a backend that has left is of no use.
        let Some(member) = self.members.get_mut(id) else { return };
        let metrics = &self.cluster.metrics;
        let passed = report.result.is_ok();
        if passed { &metrics.probes_passed } else { &metrics.probes_failed }.increment(1);
        if member.probed(&report, health, now) {
            let (cluster, backend) = (self.cluster.name(), &member.backend.name);
            match &report.result {
                Ok(()) => tracing::info!(cluster, %backend, "healthy"),
                Err(reason) => tracing::warn!(cluster, %backend, reason, "unhealthy"),
            }
            self.changed = true;
        }
        if passed && health.shows_answers() && member.stall.stalled {
            member.stall.end();
            self.changed = true;
        }
        member.backend.probed(report, now);
    }

    fn publish(&mut self, now: Instant) {
        let settings = &self.cluster.settings;
        let mut entries: Box<[Entry]> =
            self.members.iter().map(|member| member.entry(settings, now)).collect();
        let rules = Rules {
            panic_threshold: settings.panic_threshold,
            probes_awaited: now < self.pending_until,
        };
        let candidates = Candidates::choose(&entries, rules);
        if candidates.panic {
            // Whoever is used for want of better ones keeps its work.
            candidates.indices.iter().for_each(|index| entries[*index].cut = Cut::Never);
        }
        let before = self.cluster.snapshot.load();
        if candidates.panic && !before.candidates.panic {
            let cluster = self.cluster.name();
            tracing::warn!(cluster, "too few eligible backends, using doubted ones too");
        }
        self.tables.follow(&entries, &candidates);
        let version = before.version + 1;
        let mut snapshot = Snapshot::new(version, entries, candidates);
        snapshot.keyed = self.tables.current();
        snapshot.source = self.answered.then_some(0);
        snapshot.stale_since = self.stale_since;
        self.cluster.snapshot.store(Arc::new(snapshot));
        self.rearm_trials(now);
        self.announce.send_replace(version);
        self.replies.send();
        self.changed = false;
        self.published = Some(now);
    }

    /// Lets those be tried again, once their time comes, who are not on trial for anyone who picks
    /// from now on. Sooner, and the request that has shown that a backend still fails would be
    /// followed by others, up to the next snapshot.
    fn rearm_trials(&self, now: Instant) {
        for member in self.members.iter().filter(|member| !member.record.is_due(now)) {
            member.backend.end_trial();
        }
    }

    /// Takes a backend out for a while, if it may be: not too many, and not the last.
    fn eject(&mut self, id: u64, reason: EjectionReason, now: Instant) {
        let Some(rules) = &self.cluster.settings.outlier else { return };
        let room = Room::of(&self.members, rules);
        if let Some(member) = self.members.get_mut(id)
            && member.is_usable()
            && room.is_left_for(member)
        {
            eject(&self.cluster, member, reason, rules, now);
            self.changed = true;
        }
    }

    fn suspect(&mut self, id: u64, now: Instant) {
        // It may have been forgiven since.
        if self.members.get_mut(id).is_some_and(|member| member.backend.is_suspect()) {
            self.eject(id, EjectionReason::Consecutive, now);
        }
    }

    fn tried(&mut self, id: u64, passed: bool, now: Instant) {
        let Some(member) = self.members.get_mut(id) else { return };
        // It may have recovered, or have been ejected for something else since.
        if !member.record.is_due(now) {
            return;
        }
        if passed {
            member.recovered(now);
            let (cluster, backend) = (self.cluster.name(), &member.backend.name);
            tracing::info!(cluster, %backend, "recovered from its ejection");
            self.changed = true;
        } else if member.drains.any() {
            // Who drains may not be ejected; it is tried again should it be back.
            member.backend.end_trial();
        } else {
            member.record.ejection = None;
            self.eject(id, EjectionReason::Trial, now);
            self.changed = true;
        }
    }

    fn order(&mut self, order: Order, now: Instant) {
        let default = self.cluster.settings.drain.timeout;
        let done = order.carry_out(&mut self.members, default, now);
        if let Ok(outcome) = &done {
            let cluster = self.cluster.name();
            tracing::info!(cluster, backend = %outcome.backend, "{}", order.describe());
            if outcome.cancelled {
                self.cluster.metrics.drain(DrainResult::Cancelled).increment(1);
            }
            self.changed = true;
        }
        self.replies.add(order, done, self.changed);
    }
}

fn eject(
    cluster: &Cluster,
    member: &mut Member,
    reason: EjectionReason,
    rules: &config::Outlier,
    now: Instant,
) {
    let length = member.record.eject(reason, rules, now);
    member.backend.forgive();
    cluster.metrics.ejection(reason).increment(1);
    let (cluster, backend) = (cluster.name(), &member.backend.name);
    let (reason, length) = (reason.name(), humantime::format_duration(length));
    tracing::warn!(cluster, %backend, reason, %length, "ejected");
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
