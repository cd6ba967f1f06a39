//! The single writer of a cluster's snapshots.
//!
//! Every rule about the state of backends is in [`ClusterTask::apply`] and [`ClusterTask::tick`],
//! which take an event and a time and have no other input: no socket, no clock, no chance. (What is
//! told to people has the time of the wall clock.)

mod discovery;
mod orders;
mod pins;
mod sweep;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::answer::Answer;
use super::backend::{ProbeReport, Shared};
use super::budget::Ledger;
use super::candidates::{Candidates, Rules};
use super::drain::Cut;
use super::fleet::FleetOrders;
use super::history::Kind;
use super::keyed::{Keyed, Tables};
use super::member::Member;
use super::members::Members;
use super::order::{Order, Replies};
use super::outlier::Room;
use super::snapshot::{Entry, Snapshot, Verdict};
use super::sources::Sources;
use super::{Cluster, EVENTS};
use crate::config;
use crate::telemetry::metrics::EjectionReason;
use discovery::Used;
use pins::Pinned;
pub use pins::{Pinning, Unpinning};

/// Snapshots follow each other no faster than this; what happens in between is folded together.
const PUBLISH_EVERY: Duration = Duration::from_millis(10);

/// Of one change at most so many backends are noted one by one.
const NOTED: usize = 64;

/// Something that may change a cluster.
#[derive(Debug)]
pub enum Event {
    /// A source answered.
    Discovered(Answer),
    /// A source, by its place in the configuration, failed.
    DiscoveryFailed {
        source: usize,
        at: SystemTime,
        error: String,
    },
    /// A probe of the backend with this id ended.
    Probed {
        id: u64,
        report: ProbeReport,
    },
    /// Traffic has met too many failures in a row at the backend with this id.
    Suspect {
        id: u64,
    },
    /// The request that was to show whether an ejected backend has recovered has shown it.
    Trial {
        id: u64,
        passed: bool,
    },
    /// An operator wants something.
    Order(Order),
    /// A lease has ended, and with it every order that names it.
    LeaseEnded(u64),
    /// Somebody is to be told once all that came before is shown.
    Await(oneshot::Sender<()>),
    /// An app binds a key to a backend, or takes that back.
    Pin(Pinning),
    Unpin(Unpinning),
    /// These are all orders for the fleet that concern this cluster.
    Fleet(FleetOrders),
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
    sources: Sources,
    /// When another answer may count without anybody saying anything.
    sources_due: Option<Instant>,
    /// `None` before the first answer.
    used: Option<Used>,
    stale_since: Option<SystemTime>,
    from_memory: bool,
    fleet: FleetOrders,
    pinned: Pinned,
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
            sources: Sources::new(&cluster.settings, now, pending_until),
            cluster,
            inbox,
            announce,
            shared,
            members: Members::default(),
            ledger: Ledger::new(now),
            replies: Replies::default(),
            sources_due: None,
            used: None,
            stale_since: None,
            from_memory: false,
            fleet: FleetOrders::default(),
            pinned: Pinned::default(),
            pending_until,
            changed: false,
            published: None,
            swept: now,
            grown: now,
        }
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
                self.discovery_failed(source, at, &error, now);
            }
            Event::Probed { id, report } => self.probed(id, report, now),
            Event::Suspect { id } => self.suspect(id, now),
            Event::Trial { id, passed } => self.tried(id, passed, now),
            Event::Order(order) => self.order(order, now),
            Event::LeaseEnded(lease) => self.lease_ended(lease),
            Event::Await(shown) => self.replies.add_await(shown, self.changed),
            Event::Pin(pinning) => self.pin(pinning, now),
            Event::Unpin(unpinning) => self.unpin(unpinning),
            Event::Fleet(orders) => self.fleet(orders, now),
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
        if self.sources_due.is_some_and(|due| due <= now) {
            self.follow_sources(SystemTime::now(), now);
        }
        self.sources_due = self.sources.next_change(now);
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
        let Some(published) = self.published else { return self.sources_due };
        let publish = self.changed.then_some(published + PUBLISH_EVERY);
        // What has changed is published soon, and with it what pending backends are used for.
        let awaited = published < self.pending_until && !self.changed;
        let pending = awaited.then_some(self.pending_until);
        let forget = self.members.next_forgotten();
        let any = self.members.iter().next().is_some() || forget.is_some();
        // Orders end while their backends are away, and pins may outlive everybody.
        let sweep = (any || self.pinned.is_awaited()).then_some(self.swept + sweep::EVERY);
        [publish, pending, forget, sweep, self.sources_due].into_iter().flatten().min()
    }

    fn probed(&mut self, id: u64, report: ProbeReport, now: Instant) {
        let Some(health) = &self.cluster.settings.health else { return };
        // A late verdict about a backend that has left is of no use.
        let Some(member) = self.members.get_mut(id) else { return };
        let metrics = &self.cluster.metrics;
        let passed = report.result.is_ok();
        if passed { &metrics.probes_passed } else { &metrics.probes_failed }.increment(1);
        let backend = Arc::clone(&member.backend);
        let verdict = member.probed(&report, health, now).then_some(member.verdict);
        if passed && health.shows_answers() && member.stall.stalled {
            member.stall.end();
            self.note(Some(&backend.name), Kind::Recovered, "it answers its checks".into());
            self.changed = true;
        }
        if let Some(verdict) = verdict {
            let (kind, cause) = match (verdict, &report.result) {
                (Verdict::Unhealthy, Err(error)) => (Kind::Unhealthy, error.clone()),
                _ => (Kind::Healthy, "it passes its checks".into()),
            };
            self.note(Some(&backend.name), kind, cause);
            self.changed = true;
        }
        backend.probed(report, now);
    }

    fn publish(&mut self, now: Instant) {
        let settings = &self.cluster.settings;
        let mut entries: Box<[Entry]> =
            self.members.iter().map(|member| member.entry(settings, now)).collect();
        let rules = Rules {
            panic_threshold: settings.panic_threshold,
            tier_spill: settings.tier_spill,
            probes_awaited: now < self.pending_until,
        };
        let candidates = Candidates::choose(&entries, rules);
        if candidates.panic {
            // Whoever is used for want of better ones keeps its work.
            candidates.indices.iter().for_each(|index| entries[*index].cut = Cut::Never);
        }
        let before = self.cluster.snapshot.load();
        match (before.candidates.panic, candidates.panic) {
            (false, true) => {
                let cause = "too few backends are eligible, doubted ones are used too";
                self.note(None, Kind::Panic, cause.into());
            }
            (true, false) => self.note(None, Kind::PanicOver, "enough are eligible".into()),
            _ => {}
        }
        self.tables.follow(&entries, &candidates);
        let version = before.version + 1;
        let mut snapshot = Snapshot::new(version, entries, candidates);
        snapshot.keyed = self.tables.current();
        snapshot.source = self.source();
        snapshot.stale_since = self.stale_since;
        snapshot.from_memory = self.from_memory;
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

    /// Takes a backend out for a while, if it may be: not too many, and not the last. True when it
    /// was.
    fn eject(&mut self, id: u64, reason: EjectionReason, now: Instant) -> bool {
        let Some(rules) = &self.cluster.settings.outlier else { return false };
        // Looking at everybody is for when it may matter.
        if !self.members.get_mut(id).is_some_and(|member| member.is_usable()) {
            return false;
        }
        let room = Room::of(&self.members, rules);
        let Some(member) = self.members.get_mut(id).filter(|member| room.is_left_for(member))
        else {
            return false;
        };
        let cause = eject(&self.cluster, member, reason, rules, now);
        let backend = Arc::clone(&member.backend.name);
        self.note(Some(&backend), Kind::Ejected, cause);
        self.changed = true;
        true
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
            let backend = Arc::clone(&member.backend.name);
            self.note(Some(&backend), Kind::Recovered, "a request has shown it".into());
            self.changed = true;
        } else if member.drains.any() {
            // Who drains may not be ejected; it is tried again should it be back.
            member.backend.end_trial();
        } else {
            member.record.ejection = None;
            let backend = Arc::clone(&member.backend.name);
            if !self.eject(id, EjectionReason::Trial, now) {
                let cause = "a request has failed, but it may not be ejected once more";
                self.note(Some(&backend), Kind::Recovered, cause.into());
            }
            self.changed = true;
        }
    }

    /// Remembers what has happened to a backend, or to the cluster, for people.
    fn note(&self, backend: Option<&Arc<str>>, kind: Kind, cause: String) {
        let source = self.cluster.settings.source_kind(self.source());
        self.shared.history.note(&self.cluster.settings.name, backend, kind, cause, source);
    }

    /// The same of several.
    fn note_all(&self, backends: &[Arc<str>], kind: Kind, cause: &str) {
        self.note_each(backends.iter().map(|backend| (backend, kind, cause.to_owned())));
    }

    /// Of several; of very many some stand for all.
    fn note_each<'n>(
        &self,
        mut notes: impl ExactSizeIterator<Item = (&'n Arc<str>, Kind, String)>,
    ) {
        for (backend, kind, cause) in notes.by_ref().take(NOTED) {
            self.note(Some(backend), kind, cause);
        }
        let more = notes.len();
        if let Some((_, kind, cause)) = notes.next() {
            self.note(None, kind, format!("{more} more, as: {cause}"));
        }
    }
}

/// Ejects a member; the value is the cause, to be noted.
fn eject(
    cluster: &Cluster,
    member: &mut Member,
    reason: EjectionReason,
    rules: &config::Outlier,
    now: Instant,
) -> String {
    let length = member.record.eject(reason, rules, now);
    member.backend.forgive();
    cluster.metrics.ejection(reason).increment(1);
    format!("{} for {}", reason.describe(), humantime::format_duration(length))
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
