//! What becomes of the members of a cluster when its sources speak.

use std::time::SystemTime;

use tokio::time::{Duration, Instant};

use super::discovery::Told;
use super::model::Model;
use super::peer::{Peer, Suspicion};
use crate::cluster::Reported;
use crate::cluster::drain::Cause;
use crate::cluster::history::Kind;

impl Model {
    pub(super) fn answered_by(
        &mut self,
        source: usize,
        told: Vec<Told>,
        decided: bool,
        now: Instant,
    ) {
        if self.sources.answered(source, told, decided, now) {
            self.due.push((None, Kind::Answered));
        }
        self.follow_sources(now);
    }

    pub(super) fn failed_by(&mut self, source: usize, at: SystemTime, now: Instant) {
        if self.sources.failed(source, at) {
            self.due.push((None, Kind::Failed));
        }
        self.follow_sources(now);
    }

    /// The word that counts may be another, also because time has passed.
    pub(super) fn follow_sources(&mut self, now: Instant) {
        let counts = self.sources.counts(now);
        let hold = self.settings.removal_hold;
        match (&self.counts, &counts) {
            (Some(before), Some(after)) if before.source == after.source => {
                if before.word != after.word {
                    self.take_over(&after.word.told, hold.filter(|_| !after.word.decided), now);
                }
            }
            (before, Some(after)) => {
                if before.is_some() || after.source > 0 || after.from_memory {
                    self.due.push((None, Kind::Source));
                }
                // Another source is believed as it is.
                self.take_over(&after.word.told, None, now);
            }
            (Some(_), None) => {
                self.due.push((None, Kind::Source));
                self.take_over(&[], None, now);
            }
            (None, None) => {}
        }
        self.counts = counts;
    }

    fn take_over(&mut self, all: &[Told], hold: Option<Duration>, now: Instant) {
        let (checked, late) = (self.settings.health.is_some(), self.latest_id > 0);
        let base = self.base_ejection();
        let drain = self.settings.drain.timeout;
        let until = hold.filter(|_| self.loses_too_many(all)).map(|hold| now + hold);
        for peer in &mut self.peers {
            let told = all.iter().find(|told| told.port == peer.port).copied();
            let is_lost = told.is_none_or(|told| !told.is_usable());
            let is_missed = peer.is_kept() && peer.critical_since.is_none();
            match told {
                Some(told) if !peer.present => {
                    peer.join(checked, late, base, now);
                    peer.describe(told, drain, base, now);
                }
                None if !peer.is_kept() => {}
                _ if is_lost && is_missed => match (peer.suspicion, until) {
                    (Some(Suspicion { until, .. }), _) if hold.is_some() => {
                        peer.suspicion = Some(Suspicion { until, then: told });
                    }
                    (None, Some(until)) if peer.drains.is_empty() => {
                        peer.suspicion = Some(Suspicion { until, then: told });
                    }
                    _ => peer.lose(told, drain, base, now),
                },
                None => peer.lose(None, drain, base, now),
                Some(told) => {
                    peer.suspicion = None;
                    peer.end_drain(Cause::Removal);
                    peer.describe(told, drain, base, now);
                }
            }
        }
        self.follow_fleet(now);
    }

    /// Whether an answer takes away more than half of three or more, or leaves nobody: those count
    /// that are to be used as far as anybody knows.
    fn loses_too_many(&self, all: &[Told]) -> bool {
        let usable = |port: u16| all.iter().any(|told| told.port == port && told.is_usable());
        let missed = || {
            self.peers.iter().filter(|peer| {
                peer.is_kept() && peer.critical_since.is_none() && peer.drains.is_empty()
            })
        };
        let (all_missed, lost) =
            (missed().count(), missed().filter(|peer| !usable(peer.port)).count());
        let nobody = all.iter().all(|told| !told.is_usable());
        lost > 0 && (nobody || all_missed >= 3 && 2 * lost > all_missed)
    }
}

impl Peer {
    /// Its source is believed.
    pub(super) fn describe(
        &mut self,
        told: Told,
        drain: Duration,
        base: Option<Duration>,
        now: Instant,
    ) {
        self.told = told;
        match (self.critical_since, told.reported) {
            (None, Reported::Critical) => self.critical_since = Some(now),
            (Some(_), Reported::Passing | Reported::Maintenance) => {
                self.critical_since = None;
                self.recovered(base, now);
                self.grows = true;
            }
            _ => {}
        }
        if told.reported != Reported::Maintenance {
            self.end_drain(Cause::Maintenance);
        } else if !self.drains_by(Cause::Maintenance) {
            self.begin_drain(Cause::Maintenance, now + drain);
        }
    }

    /// It is critical, or gone, as its source says.
    pub(super) fn lose(
        &mut self,
        then: Option<Told>,
        drain: Duration,
        base: Option<Duration>,
        now: Instant,
    ) {
        self.suspicion = None;
        match then {
            Some(told) => self.describe(told, drain, base, now),
            None => self.begin_drain(Cause::Removal, now + drain),
        }
    }
}
