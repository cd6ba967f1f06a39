//! What the simulation knows by itself: what it was told, what it told the cluster, and what its
//! own requests met.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::{Duration, Instant};

use super::peer::Peer;
use super::pins::Pins;
use super::rules::{self, Choice, Standing};
use super::sources::{Counts, Sources};
use crate::cluster::history::Kind;
use crate::cluster::members::REMEMBER;
use crate::cluster::{FleetOrders, Verdict};
use crate::config::{self, Outlier};
use crate::telemetry::metrics::Outcome;

/// Longer ago than what any rule looks back on.
const PAST: Duration = Duration::from_millis(11_200);

#[derive(Debug)]
pub(super) struct Model {
    pub(super) settings: config::Cluster,
    /// By port, from 1 on.
    pub(super) peers: Vec<Peer>,
    pub(super) sources: Sources,
    /// The word that the members are from.
    pub(super) counts: Option<Counts>,
    pub(super) fleet: FleetOrders,
    /// Leases that have ended.
    pub(super) ended: BTreeSet<u64>,
    pub(super) pins: Pins,
    /// What must be noted beside what is seen of the backends, by their ports.
    pub(super) due: Vec<(Option<u16>, Kind)>,
    pub(super) verdicts_until: Instant,
    pub(super) in_flight: u32,
    pub(super) latest_id: u64,
    /// Where learned keys lead: an id, and until when.
    pub(super) lessons: HashMap<u64, (u64, Instant)>,
    /// Retries that were paid for, and outcomes of attempts.
    pub(super) retries: VecDeque<Instant>,
    pub(super) outcomes: VecDeque<Instant>,
}

impl Model {
    pub(super) fn new(
        settings: config::Cluster,
        peers: u16,
        verdicts_until: Instant,
        now: Instant,
    ) -> Self {
        let (sources, hold) = (settings.sources.len(), settings.removal_hold);
        Self {
            settings,
            peers: (1..=peers).map(|port| Peer::new(port, now)).collect(),
            sources: Sources::new(sources, hold, verdicts_until, now),
            counts: None,
            fleet: FleetOrders::new(),
            ended: BTreeSet::new(),
            pins: Pins::default(),
            due: Vec::new(),
            verdicts_until,
            in_flight: 0,
            latest_id: 0,
            lessons: HashMap::new(),
            retries: VecDeque::new(),
            outcomes: VecDeque::new(),
        }
    }

    pub(super) fn peer(&mut self, port: u16) -> &mut Peer {
        &mut self.peers[usize::from(port) - 1]
    }

    pub(super) fn with_id(&mut self, id: u64) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.present && peer.id == Some(id))
    }

    pub(super) fn present(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.present)
    }

    pub(super) fn base_ejection(&self) -> Option<Duration> {
        self.settings.outlier.as_ref().map(|rules| rules.base_ejection)
    }

    // What the cluster is told.

    pub(super) fn probed(&mut self, id: u64, passed: bool, now: Instant) {
        let Some(health) = self.settings.health.clone() else { return };
        let base = self.base_ejection();
        if let Some(peer) = self.with_id(id) {
            peer.probed(passed, &health, base, now);
        }
    }

    /// What a trial has shown; true when it has shown that an ejection was right.
    pub(super) fn tried(&mut self, id: u64, passed: bool, now: Instant) -> bool {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == Some(id)) else {
            return false;
        };
        if !peer.present || peer.ejected_until.is_none_or(|until| until > now) {
            return false;
        }
        if !passed && !peer.drains.is_empty() {
            peer.trial = false;
        }
        if passed {
            peer.recovered(None, now);
        }
        !passed
    }

    // What its requests meet.

    pub(super) fn begun(&mut self, port: u16) {
        self.in_flight += 1;
        let peer = self.peer(port);
        peer.in_flight += 1;
        peer.waiting += 1;
    }

    pub(super) fn answered(&mut self, port: u16, now: Instant) {
        self.outcomes.push_back(now);
        let peer = self.peer(port);
        peer.waiting -= 1;
        (peer.answered_at, peer.worked_at) = (Some(now), Some(now));
    }

    pub(super) fn ended(&mut self, port: u16, outcome: Outcome, answered: bool, now: Instant) {
        self.in_flight -= 1;
        let failed = outcome.is_failure();
        if failed && !answered {
            self.outcomes.push_back(now);
        }
        let peer = self.peer(port);
        peer.in_flight -= 1;
        peer.waiting -= u32::from(!answered);
        if answered || failed {
            peer.worked_at = Some(now);
            peer.recent.push_back((now, outcome));
        }
        match outcome {
            Outcome::Success => peer.forgive(),
            Outcome::ConnectFailed => {
                peer.failures += 1;
                peer.connect_failures += 1;
            }
            Outcome::Reset | Outcome::Timeout | Outcome::Http5xx | Outcome::GrpcError => {
                peer.failures += 1;
                peer.connect_failures = 0;
            }
            Outcome::Cancelled | Outcome::Stale | Outcome::Unused => {}
        }
    }

    /// Where a learned key leads; asking for it renews it past half of its time.
    pub(super) fn lesson(&mut self, key: u64, now: Instant) -> Option<u64> {
        let ttl = self.lessons_last();
        let (id, expires) = self.lessons.get_mut(&key)?;
        if *expires <= now {
            self.lessons.remove(&key);
            return None;
        }
        if *expires - now < ttl / 2 {
            *expires = now + ttl;
        }
        Some(*id)
    }

    pub(super) fn lessons_last(&self) -> Duration {
        self.settings.affinity.ttl.unwrap_or(Duration::from_secs(24 * 3600))
    }

    /// Forgets what no rule looks back on, and who has been away for long.
    pub(super) fn forget(&mut self, now: Instant) {
        let old = |at: &Instant| *at + PAST < now;
        while self.retries.pop_front_if(|at| old(at)).is_some() {}
        while self.outcomes.pop_front_if(|at| old(at)).is_some() {}
        for peer in &mut self.peers {
            while peer.recent.pop_front_if(|(at, _)| old(at)).is_some() {}
            if !peer.present && peer.gone_at.is_some_and(|gone| gone + REMEMBER <= now) {
                peer.id = None;
                peer.own.clear();
            }
        }
    }

    pub(super) fn choice(&self, now: Instant) -> Choice {
        let facts: Vec<_> = self.present().map(Peer::facts).collect();
        let awaited = now < self.verdicts_until;
        rules::choose(&facts, self.settings.panic_threshold, awaited, self.settings.tier_spill)
    }

    /// Whether this one may be ejected, were it in use.
    pub(super) fn may_eject(&self, at: usize, rules: &Outlier) -> bool {
        let peer = &self.peers[at];
        let staying = || self.present().filter(|other| other.drains.is_empty());
        let others = || staying().filter(|other| other.port != peer.port);
        let ejected = others().filter(|other| other.ejected_until.is_some()).count();
        let usable = |other: &Peer| other.standing() == Standing::Ready;
        peer.verdict == Verdict::Healthy
            && peer.critical_since.is_none()
            && ejected < rules.allowance(staying().count())
            && others().any(usable)
    }

    pub(super) fn is_full(&self, port: u16) -> bool {
        let limits = &self.settings.limits;
        let in_flight = self.peers[usize::from(port) - 1].in_flight;
        limits.max_requests.is_some_and(|most| self.in_flight >= most)
            || limits.backend_max_requests.is_some_and(|most| in_flight >= most)
    }
}

impl Outlier {
    /// How many of so many may be ejected.
    pub(super) fn allowance(&self, backends: usize) -> usize {
        let share = f64::from(self.max_ejected) / 100.0 * backends as f64;
        // A float may miss a whole number by a little.
        ((share + 1e-6).floor() as usize).max(1)
    }
}
