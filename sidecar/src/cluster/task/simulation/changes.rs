//! Whether what the cluster thinks of its backends may be so.

use tokio::time::{Duration, Instant};

use super::journal::Note;
use super::peer::{Peer, SWEEP};
use super::world::World;
use crate::cluster::drain::Cause;
use crate::cluster::fixture::port;
use crate::cluster::outlier::Ejection;
use crate::cluster::{Ordered, Verdict};
use crate::telemetry::metrics::EjectionReason;

/// A drained backend is done after so long without work.
const QUIET: Duration = Duration::from_secs(1);
/// What makes a stall: so many requests, and so long without an answer.
const OUTSTANDING: u32 = 5;
const PATIENCE: Duration = Duration::from_millis(250);

/// What the task says of a member.
struct Fact {
    id: u64,
    tag: Option<u64>,
    suspect_until: Option<Instant>,
    ordered: Ordered,
    ejection: Option<Ejection>,
    stalled: bool,
    done: bool,
    in_flight: u32,
    usual: Option<Duration>,
}

impl World {
    /// The task has taken in an event, or looked around.
    pub(super) fn judge_change(&mut self, failed_trial: Option<u64>, looked: bool) {
        let was_stalled: Vec<bool> = self.model.peers.iter().map(|peer| peer.stalled).collect();
        let mut facts: Vec<Option<Fact>> = self.model.peers.iter().map(|_| None).collect();
        for member in self.task.members.iter() {
            let backend = &member.backend;
            facts[usize::from(port(&backend.endpoint.address)) - 1] = Some(Fact {
                id: backend.id,
                tag: backend.tags.map(|tags| tags.signing()),
                suspect_until: member.suspicion.as_ref().map(|suspicion| suspicion.until),
                ordered: member.ordered.clone(),
                ejection: member.record.ejection,
                stalled: member.stall.stalled,
                done: member.drains.is_done(),
                in_flight: backend.in_flight(),
                usual: backend.usual(),
            });
        }
        let gone = |at: &usize| self.model.peers[*at].present && facts[*at].is_none();
        let gone: Vec<usize> = (0..facts.len()).filter(gone).collect();
        gone.iter().for_each(|at| self.judge_gone(*at, looked));
        if !gone.is_empty() {
            // A machine's name may be of one only now.
            self.model.follow_fleet(Instant::now());
        }
        let mut ejected = false;
        let facts = facts.iter().enumerate();
        for (at, fact) in facts.filter_map(|(at, fact)| Some((at, fact.as_ref()?))) {
            assert!(self.model.peers[at].present, "{} is there without a cause", at + 1);
            self.judge_identity(at, fact);
            self.judge_suspicion(at, fact, looked);
            self.judge_orders(at, &fact.ordered, looked);
            self.judge_stall(at, fact, looked);
            self.judge_done(at, fact, looked);
            ejected |= self.judge_ejection(at, fact, failed_trial);
        }
        if ejected {
            self.judge_share(&was_stalled);
        }
        self.judge_away(looked);
        self.judge_pins(looked);
    }

    /// Orders end while a backend is away, too.
    fn judge_away(&mut self, looked: bool) {
        let known = self.task.members.known_mut().map(|member| {
            let port = port(&member.backend.endpoint.address);
            (usize::from(port) - 1, member.ordered.clone())
        });
        let away = known.filter(|(at, _)| !self.model.peers[*at].present);
        for (at, ordered) in away.collect::<Vec<_>>() {
            self.judge_orders(at, &ordered, looked);
        }
    }

    fn judge_gone(&mut self, at: usize, looked: bool) {
        let peer = &mut self.model.peers[at];
        assert!(looked && peer.drains.iter().any(|(cause, _)| *cause == Cause::Removal));
        assert!(peer.done, "{} went before it was done", peer.port);
        assert_eq!(peer.in_flight, 0, "{} went with work in flight", peer.port);
        (peer.present, peer.gone_at) = (false, Some(Instant::now()));
        self.journal.note(Note::Gone(at as u16 + 1));
    }

    fn judge_identity(&mut self, at: usize, fact: &Fact) {
        let latest = &mut self.model.latest_id;
        let peer = &mut self.model.peers[at];
        match peer.id {
            Some(id) => assert_eq!(fact.id, id, "{} lost its id", peer.port),
            None => assert!(fact.id > *latest, "{} has an id of another", peer.port),
        }
        *latest = fact.id.max(*latest);
        peer.id = Some(fact.id);
        assert!(peer.tag.is_none() || peer.tag == fact.tag, "{} lost its tag", peer.port);
        peer.tag = fact.tag;
        assert_eq!(fact.in_flight, peer.in_flight, "in flight at {}", peer.port);
    }

    /// A suspect goes when its time is up, or there is more against it; not sooner.
    fn judge_suspicion(&mut self, at: usize, fact: &Fact, looked: bool) {
        let now = Instant::now();
        let (drain, base) = (self.model.settings.drain.timeout, self.model.base_ejection());
        let peer = &mut self.model.peers[at];
        if let Some(until) = fact.suspect_until {
            assert!(now <= until + SWEEP, "{} is a suspect for too long", peer.port);
        }
        let Some(suspicion) = peer.suspicion else {
            return assert!(fact.suspect_until.is_none(), "{} is a suspect", peer.port);
        };
        if fact.suspect_until == Some(suspicion.until) {
            return;
        }
        assert!(looked && fact.suspect_until.is_none(), "{} is a suspect", peer.port);
        let doubted = peer.verdict == Verdict::Unhealthy || peer.ejected_until.is_some();
        let over = suspicion.until <= now;
        assert!(doubted || over, "{} is no longer a suspect", peer.port);
        peer.lose(suspicion.then, drain, base, now);
        self.journal.note(Note::Unmasked(at as u16 + 1));
    }

    fn judge_done(&mut self, at: usize, fact: &Fact, looked: bool) {
        let peer = &mut self.model.peers[at];
        if fact.done == peer.done {
            return;
        }
        assert!(looked && fact.done, "{} is no longer done", peer.port);
        let now = Instant::now();
        let over = peer.deadline().is_some_and(|deadline| deadline <= now);
        let quiet = peer.worked_at.is_none_or(|at| now - at >= QUIET);
        assert_eq!(peer.in_flight, 0, "{} is done with work in flight", peer.port);
        assert!(over || quiet, "{} is done, and worked at {:?}", peer.port, peer.worked_at);
        peer.done = true;
        self.journal.note(Note::Done(at as u16 + 1));
    }

    fn judge_stall(&mut self, at: usize, fact: &Fact, looked: bool) {
        let now = Instant::now();
        let peer = &self.model.peers[at];
        if fact.stalled == peer.stalled {
            return;
        }
        assert!(looked);
        let answered = peer.answered_at;
        if fact.stalled {
            let patience = PATIENCE.max(fact.usual.unwrap_or_default() * 10);
            assert!(peer.waiting >= OUTSTANDING, "{} stalls with little to do", peer.port);
            assert!(answered.is_some_and(|at| now - at >= patience), "{} answers", peer.port);
            let others = self.model.present().filter(|other| other.port != peer.port);
            let newest = others.filter_map(|other| other.answered_at).max();
            assert!(newest > answered, "{} stalls, but nobody else answers", peer.port);
        } else {
            let lately = answered.is_some_and(|at| now - at <= SWEEP);
            assert!(peer.waiting == 0 || lately, "{} still answers nothing", peer.port);
        }
        self.model.peers[at].stalled = fact.stalled;
        self.journal.note(Note::Stalled(at as u16 + 1, fact.stalled));
    }

    /// True when it was ejected.
    fn judge_ejection(&mut self, at: usize, fact: &Fact, failed_trial: Option<u64>) -> bool {
        let now = Instant::now();
        let peer = &self.model.peers[at];
        if fact.ejection.map(|ejection| ejection.until) == peer.ejected_until {
            return false;
        }
        let rules = self.model.settings.outlier.clone().expect("ejections have rules");
        let tried = failed_trial == Some(fact.id);
        let Some(ejection) = fact.ejection else {
            assert!(tried, "the ejection of {} ended without a cause", peer.port);
            assert!(!self.model.may_eject(at, &rules), "{} failed its trial", peer.port);
            self.model.peers[at].restore(None, now);
            self.journal.note(Note::Restored(at as u16 + 1));
            return false;
        };
        let cause = match ejection.reason {
            EjectionReason::Trial => tried,
            EjectionReason::Consecutive => {
                peer.failures >= rules.consecutive
                    || peer.connect_failures >= rules.consecutive_connect
            }
            EjectionReason::SuccessRate => {
                let failed = peer.recent.iter().filter(|(_, outcome)| outcome.is_failure());
                peer.recent.len() >= 10 && failed.count() > 5
            }
        };
        assert!(cause, "{} was ejected without a cause", peer.port);
        assert!(tried || peer.ejected_until.is_none(), "{} was ejected twice", peer.port);
        assert_eq!((peer.verdict, peer.critical_since), (Verdict::Healthy, None));
        assert!(peer.drains.is_empty(), "{} is ejected while it drains", peer.port);
        let before =
            if tried { peer.times.clone() } else { peer.times_at(rules.base_ejection, now) };
        let times = before.start() + 1..=before.end() + 1;
        let length = ejection.until - now;
        let fits = |times: &u32| (rules.base_ejection * *times).min(rules.max_ejection) == length;
        let fitting: Vec<u32> = times.clone().filter(fits).collect();
        let (Some(first), Some(last)) = (fitting.first(), fitting.last()) else {
            panic!("{} was ejected for {length:?}, for the time {times:?}", peer.port);
        };
        let peer = &mut self.model.peers[at];
        peer.times = *first..=*last;
        peer.ejected_until = Some(ejection.until);
        peer.forgive();
        self.journal.note(Note::Ejected(at as u16 + 1));
        true
    }

    /// Somebody was ejected: not too many are, and somebody is left.
    fn judge_share(&self, was_stalled: &[bool]) {
        let rules = self.model.settings.outlier.as_ref().expect("ejections have rules");
        let staying = || self.model.present().filter(|peer| peer.drains.is_empty());
        let ejected = staying().filter(|peer| peer.ejected_until.is_some()).count();
        let most = rules.allowance(staying().count());
        assert!(ejected <= most, "{ejected} are ejected, {most} may be");
        let usable = |peer: &Peer| {
            let stalled = peer.stalled && was_stalled[usize::from(peer.port) - 1];
            let ready = peer.verdict == Verdict::Healthy && peer.critical_since.is_none();
            ready && peer.ejected_until.is_none() && !stalled
        };
        assert!(staying().any(usable), "the last usable one was ejected");
    }
}
