//! Requests: their keys, what backends make of them, and what follows.

use tokio::time::{Duration, Instant};

use super::journal::Note;
use super::setup::{millis, one_of};
use super::world::World;
use crate::cluster::{Backend, Cut, Key, NoPick, Pick, Wish};
use crate::config::AffinityKey;
use crate::telemetry::metrics::Outcome;

/// More are not in flight at a time, so that a world stays small.
const JOBS: usize = 80;
/// Attempts of one request.
const ATTEMPTS: usize = 3;
/// How long a trial may take.
const TRIAL: Duration = Duration::from_secs(1);

/// How a backend behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Slow,
    /// Accepts no connection.
    Refuses,
    Resets,
    /// Answers 503.
    Fails,
    /// Takes everything and answers nothing.
    Stopped,
}

impl Mood {
    pub(super) fn draw(rng: &mut fastrand::Rng) -> Self {
        let bad = [Self::Refuses, Self::Resets, Self::Fails, Self::Stopped, Self::Stopped];
        let bad = one_of(rng, bad);
        one_of(rng, [Self::Well, Self::Well, Self::Slow, bad])
    }

    pub(super) fn passes_probes(self) -> bool {
        matches!(self, Self::Well | Self::Slow | Self::Fails)
    }
}

/// A request at a backend.
#[derive(Debug)]
pub(super) struct Job {
    pick: Pick,
    pub(super) port: u16,
    request: Request,
    /// When its answer comes, and whether that is a failure; `None`: none comes, or it is here.
    answer: Option<(Instant, bool)>,
    answered: bool,
    pub(super) ends: Instant,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    worker: usize,
    key: Key,
    pub(super) tried: Vec<u64>,
    replayable: bool,
}

impl Job {
    /// When something happens to it next.
    pub(super) fn due(&self) -> Instant {
        self.answer.map_or(self.ends, |(at, _)| at.min(self.ends))
    }

    /// Its backend has woken up.
    pub(super) fn wake(&mut self, rng: &mut fastrand::Rng) {
        if !self.answered && self.outcome == Outcome::Timeout {
            let at = Instant::now() + millis(rng, 0, 20);
            self.answer = Some((at, false));
            (self.ends, self.outcome) = (at, Outcome::Success);
        }
    }
}

impl World {
    pub(super) fn burst(&mut self) {
        for _ in 0..self.rng.u8(1..=10) {
            if self.jobs.len() < JOBS {
                let request = Request {
                    worker: self.rng.usize(..self.pickers.len()),
                    key: self.draw_key(),
                    tried: Vec::new(),
                    replayable: self.rng.u8(..4) > 0,
                };
                self.send(request);
            }
        }
    }

    fn draw_key(&mut self) -> Key {
        if let Some(key) = self.draw_pinned() {
            return key;
        }
        if self.rng.u8(..6) == 0 {
            return Key::None;
        }
        let number = self.rng.u8(..20);
        match &self.model.settings.affinity.key {
            AffinityKey::None => Key::None,
            AffinityKey::Cookie(_) => match self.rng.choice(&self.model.peers) {
                Some(peer) if number > 0 => peer.tag.map_or(Key::None, Key::Tag),
                _ => Key::Tag(self.rng.u64(..)),
            },
            AffinityKey::Header { learned: true, .. } | AffinityKey::SourceIp { learned: true } => {
                Key::learned(&[number])
            }
            AffinityKey::Header { .. } | AffinityKey::SourceIp { .. } => Key::hashed(&[number]),
        }
    }

    fn send(&mut self, request: Request) {
        let now = Instant::now();
        let wish =
            Wish { key: request.key, tried: &request.tried, replayable: request.replayable, now };
        let picked = self.pickers[request.worker].pick(wish, Backend::may_connect);
        let what = match &picked {
            Ok(pick) => Ok(crate::cluster::fixture::port(&pick.backend.endpoint.address)),
            Err(none) => Err(*none),
        };
        self.journal.note(Note::Picked { worker: request.worker, key: request.key, what });
        self.judge_pick(wish, picked.as_ref().map_err(|none: &NoPick| *none));
        let (Ok(pick), Ok(port)) = (picked, what) else { return };
        self.model.begun(port);
        let job = self.plan(pick, port, request);
        self.jobs.push(job);
    }

    /// What will become of it.
    fn plan(&mut self, pick: Pick, port: u16, request: Request) -> Job {
        let rng = &mut self.rng;
        let now = Instant::now();
        let soon = now + millis(rng, 0, 30);
        let (answer, ends, outcome) = match self.moods[usize::from(port) - 1] {
            _ if rng.u8(..25) == 0 => (None, soon, Outcome::Cancelled),
            _ if rng.u8(..50) == 0 => (None, now, Outcome::Stale),
            Mood::Well if rng.u8(..20) == 0 => {
                (Some((soon, false)), now + millis(rng, 500, 30_000), Outcome::Success)
            }
            Mood::Well => (Some((soon, false)), soon + millis(rng, 0, 30), Outcome::Success),
            Mood::Slow => {
                let at = now + millis(rng, 50, 800);
                (Some((at, false)), at, Outcome::Success)
            }
            Mood::Refuses => (None, now + millis(rng, 0, 5), Outcome::ConnectFailed),
            Mood::Resets if rng.u8(..4) == 0 => (Some((soon, false)), soon, Outcome::Reset),
            Mood::Resets => (None, soon, Outcome::Reset),
            Mood::Fails => (Some((soon, true)), soon, Outcome::Http5xx),
            Mood::Stopped => {
                let patience = if pick.is_trial() { TRIAL } else { millis(rng, 1_000, 4_000) };
                (None, now + patience, Outcome::Timeout)
            }
        };
        Job { pick, port, request, answer, answered: false, ends, outcome }
    }

    /// Lets happen what is due.
    pub(super) fn work(&mut self) {
        let now = Instant::now();
        let mut at = 0;
        while at < self.jobs.len() {
            if let Some((_, failed)) = self.jobs[at].answer.take_if(|(due, _)| *due <= now) {
                self.answer(at, failed);
            }
            if self.jobs[at].ends > now {
                at += 1;
                continue;
            }
            let job = self.jobs.swap_remove(at);
            self.end(job);
        }
    }

    fn answer(&mut self, at: usize, failed: bool) {
        let now = Instant::now();
        let job = &mut self.jobs[at];
        job.answered = true;
        let retry_after = (failed && self.rng.u8(..4) == 0).then_some(Duration::from_secs(5));
        job.pick.answered(failed, retry_after);
        self.model.answered(job.port, now);
        let id = job.pick.backend.id;
        if let (Key::Learned(key), Some(learned), false) =
            (job.request.key, &self.cluster.learned, job.pick.stayed)
        {
            learned.learn(key, id, now);
            let expires = now + self.model.lessons_last();
            self.model.lessons.insert(key, (id, expires));
        }
    }

    fn end(&mut self, job: Job) {
        let Job { mut pick, port, mut request, answered, outcome, .. } = job;
        let now = Instant::now();
        pick.outcome(outcome);
        let (id, trial) = (pick.backend.id, pick.is_trial());
        drop(pick);
        self.journal.note(Note::Ended(port, outcome));
        self.model.ended(port, outcome, answered, now);
        // A trial that has shown nothing is over; one that failed is over when that is known.
        if trial && !outcome.is_failure() {
            self.model.peer(port).trial = false;
        }
        request.tried.push(id);
        let again = !answered && outcome.is_failure() && request.tried.len() < ATTEMPTS;
        // What was never sent costs nothing.
        if again && (outcome == Outcome::ConnectFailed || request.replayable && self.pay()) {
            self.send(request);
        }
    }

    fn pay(&mut self) -> bool {
        let paid = self.cluster.budget.take();
        self.journal.note(Note::Retry(paid));
        if paid {
            self.judge_retry();
        }
        paid
    }

    /// Ends by force what the current snapshot says, over a second.
    pub(super) fn cut(&mut self) {
        let now = Instant::now();
        let snapshot = self.pickers[0].snapshot().clone();
        let mut at = 0;
        while at < self.jobs.len() {
            let place = snapshot.find(self.jobs[at].pick.backend.id);
            let due = match place.map(|place| snapshot.entries[place].cut) {
                Some(Cut::Now) => true,
                Some(Cut::At(from)) if from <= now => self.rng.bool() || from + TRIAL <= now,
                _ => false,
            };
            if !due {
                at += 1;
                continue;
            }
            let mut job = self.jobs.swap_remove(at);
            job.pick.backend.force();
            job.outcome = Outcome::Cancelled;
            self.end(job);
        }
    }
}
