//! Whether somebody may be picked, or nobody.

use tokio::time::{Duration, Instant};

use super::journal::Note;
use super::peer::SWEEP;
use super::snapshots::PUBLISH;
use super::view::Seen;
use super::world::World;
use crate::cluster::fixture::port;
use crate::cluster::{Key, NoPick, Pick, Wish};

/// What retries are counted over.
const WINDOW: Duration = Duration::from_secs(10);

impl World {
    /// Somebody was picked, or nobody.
    pub(super) fn judge_pick(&mut self, wish: Wish<'_>, picked: Result<&Pick, NoPick>) {
        let found = picked.map(|pick| port(&pick.backend.endpoint.address));
        if let Ok(pick) = picked
            && pick.is_trial()
        {
            return self.judge_trial(wish, pick);
        }
        if self.judge_affinity(wish, picked) {
            return;
        }
        let due = self.trial_due(wish).filter(|port| !self.model.is_full(*port));
        let due = due.filter(|_| self.goes_elsewhere(wish));
        assert_eq!(due, None, "a trial is due, but {found:?} was picked");
        let view = &self.view;
        let fresh = |port: &&u16| {
            view.find(|seen| seen.port == **port).is_some_and(|s| !wish.tried.contains(&s.id))
        };
        let mut left = view.choice.candidates.iter().filter(fresh).peekable();
        let any = left.peek().is_some();
        let room: Vec<u16> = left.copied().filter(|port| !self.model.is_full(*port)).collect();
        match found {
            Ok(port) => assert!(room.contains(&port), "{port} was picked, of {room:?}"),
            Err(none) => {
                let expected = match (any, view.knows_any) {
                    (true, _) => NoPick::Full,
                    (false, false) => NoPick::NoBackend,
                    (false, true) => NoPick::NoEligibleBackend,
                };
                assert!(room.is_empty(), "nobody was picked, of {room:?}");
                assert_eq!(none, expected);
            }
        }
    }

    fn judge_trial(&mut self, wish: Wish<'_>, pick: &Pick) {
        let port = port(&pick.backend.endpoint.address);
        assert!(wish.tried.is_empty(), "a retry is no trial");
        let seen = self.view.find(|seen| seen.port == port);
        let until = seen.and_then(|seen| seen.ejected_until);
        assert!(until.is_some_and(|until| until <= wish.now), "{port} is not to be tried");
        let peer = self.model.peer(port);
        assert!(!peer.trial, "a second trial of {port}");
        peer.trial = true;
        self.journal.note(Note::Tried(port));
    }

    /// True when the pick is as the key wants it, and was to be.
    fn judge_affinity(&mut self, wish: Wish<'_>, picked: Result<&Pick, NoPick>) -> bool {
        let found = picked.map(|pick| port(&pick.backend.endpoint.address));
        let stayed = picked.is_ok_and(|pick| pick.stayed);
        let seen = match wish.key {
            Key::None => return false,
            Key::Hashed(key) => return self.judge_hashed(wish, key, found, stayed),
            Key::Pinned(id) => {
                self.journal.note(if stayed { Note::Followed } else { Note::PassedOver });
                self.view.find(|seen| seen.id == id)
            }
            Key::Tag(tag) => self.view.find(|seen| seen.tag == Some(tag)),
            Key::Learned(key) => match self.model.lesson(key, wish.now) {
                Some(id) => self.view.find(|seen| seen.id == id),
                None => return false,
            },
        };
        let seen = seen.filter(|seen| seen.stays && !wish.tried.contains(&seen.id));
        if let Some(seen) = seen.filter(|seen| !self.model.is_full(seen.port)) {
            assert_eq!((found, stayed), (Ok(seen.port), true), "affinity to {}", seen.port);
            let late = |at: Instant| at + SWEEP + PUBLISH <= wish.now;
            assert!(!seen.deadline.is_some_and(late), "{} is drained", seen.port);
            return true;
        }
        assert!(!stayed);
        if self.model.settings.affinity.strict {
            let expected = match seen {
                Some(_) => NoPick::Full,
                None if self.view.knows_any => NoPick::NoEligibleBackend,
                None => NoPick::NoBackend,
            };
            assert_eq!(found, Err(expected), "strict");
            return true;
        }
        false
    }

    /// A key has one home for each set of members, and is there whenever that may be used.
    fn judge_hashed(
        &mut self,
        wish: Wish<'_>,
        key: u64,
        found: Result<u16, NoPick>,
        stayed: bool,
    ) -> bool {
        let bounded = self.model.settings.affinity.bounded_load.is_some();
        if self.view.table != Some(self.view.signature) || bounded {
            return false;
        }
        let table = (self.view.signature, key);
        if let (true, Ok(port)) = (stayed, found) {
            let home = *self.view.homes.entry(table).or_insert(port);
            assert_eq!(home, port, "a key moved");
        }
        let Some(home) = self.home(wish) else {
            let limits = self.model.settings.limits.any();
            let must = self.view.is_whole && wish.tried.is_empty() && !limits;
            assert!(stayed || !must || found.is_err(), "a key is not at home");
            return false;
        };
        let tried = self.view.find(|s| s.port == home && wish.tried.contains(&s.id)).is_some();
        if tried || !self.view.is_candidate(home) || self.model.is_full(home) {
            return false;
        }
        assert_eq!(found, Ok(home), "a key is not at home");
        true
    }

    /// Where a hashed key belongs, if that is known.
    fn home(&self, wish: Wish<'_>) -> Option<u16> {
        let Key::Hashed(key) = wish.key else { return None };
        let current = self.view.table == Some(self.view.signature);
        let home = self.view.homes.get(&(self.view.signature, key)).copied();
        home.filter(|_| current)
    }

    /// Whether nothing keeps this anywhere: then it may as well try somebody.
    fn goes_elsewhere(&self, wish: Wish<'_>) -> bool {
        match wish.key {
            Key::Hashed(_) => self.home(wish).is_some_and(|home| !self.view.is_candidate(home)),
            _ => true,
        }
    }

    /// Who is to be tried with this, if it may be.
    fn trial_due(&self, wish: Wish<'_>) -> Option<u16> {
        if !wish.tried.is_empty() {
            return None;
        }
        let base = self.model.settings.outlier.as_ref()?.base_ejection;
        let due = |seen: &&Seen| {
            let until = seen.ejected_until;
            let running = self.model.peers[usize::from(seen.port) - 1].trial;
            until.is_some_and(|at| wish.replayable || at + base <= wish.now) && !running
        };
        self.view.backends.iter().find(due).map(|seen| seen.port)
    }

    /// A retry was paid for.
    pub(super) fn judge_retry(&mut self) {
        let now = Instant::now();
        let model = &mut self.model;
        model.retries.push_back(now);
        let retries = model.retries.iter().filter(|at| **at + WINDOW > now).count();
        let requests = model.outcomes.len().saturating_sub(retries);
        let rules = &model.settings.retry;
        let most = rules.min_per_second as usize * 10 + requests * usize::from(rules.budget) / 100;
        assert!(retries <= most, "{retries} retries, at most {most}");
    }
}
