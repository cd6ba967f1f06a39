//! Which source's word counts, written down a second time from what users are told.

use std::time::SystemTime;

use tokio::time::{Duration, Instant};

use super::discovery::Told;

/// A silent source is served from memory after so long.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Sources {
    sources: Vec<Source>,
    hold: Duration,
    start: Instant,
    awaited_until: Instant,
    /// Different words have different numbers.
    latest: u64,
}

#[derive(Debug, Default)]
struct Source {
    said: Option<Said>,
    memory: Option<Memory>,
    failing_since: Option<SystemTime>,
}

/// The latest answer.
#[derive(Debug)]
struct Said {
    word: Word,
    /// When it counts that nobody is there.
    nobody_from: Option<Instant>,
}

/// What it said in an earlier life.
#[derive(Debug)]
struct Memory {
    word: Word,
    saved_at: SystemTime,
    until: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    number: u64,
    pub(super) told: Vec<Told>,
    pub(super) decided: bool,
}

/// The word that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) source: usize,
    pub(super) word: Word,
    pub(super) stale_since: Option<SystemTime>,
    pub(super) from_memory: bool,
}

/// What a source has to say at a time.
enum Has {
    Somebody(Counts),
    Nobody(Counts),
    NothingYet,
    Nothing,
}

impl Sources {
    pub(super) fn new(
        sources: usize,
        hold: Option<Duration>,
        awaited_until: Instant,
        start: Instant,
    ) -> Self {
        let sources = (0..sources).map(|_| Source::default()).collect();
        Self { sources, hold: hold.unwrap_or_default(), start, awaited_until, latest: 0 }
    }

    fn word(&mut self, mut told: Vec<Told>, decided: bool) -> Word {
        told.sort_unstable_by_key(|told| told.port);
        self.latest += 1;
        Word { number: self.latest, told, decided }
    }

    /// Who has spoken before has nothing to remember.
    pub(super) fn remember(
        &mut self,
        source: usize,
        told: Vec<Told>,
        saved_at: SystemTime,
        until: Instant,
    ) {
        if self.sources[source].said.is_none() {
            let word = self.word(told, false);
            self.sources[source].memory = Some(Memory { word, saved_at, until });
        }
    }

    /// True when it had failed.
    pub(super) fn answered(
        &mut self,
        source: usize,
        told: Vec<Told>,
        decided: bool,
        now: Instant,
    ) -> bool {
        let was_nobody = self.sources[source].said.as_ref().and_then(|said| said.nobody_from);
        let knew_somebody = match self.has(source, now) {
            Has::Somebody(counts) => !counts.word.told.is_empty(),
            _ => false,
        };
        let word = self.word(told, decided);
        let nobody_from = match (word.told.is_empty(), was_nobody) {
            (false, _) => None,
            (true, Some(from)) if !decided => Some(from),
            (true, None) if !decided && knew_somebody => Some(now + self.hold),
            (true, from) => Some(from.map_or(now, |from| from.min(now))),
        };
        let source = &mut self.sources[source];
        source.said = Some(Said { word, nobody_from });
        source.failing_since.take().is_some()
    }

    /// True when it had not failed before.
    pub(super) fn failed(&mut self, source: usize, at: SystemTime) -> bool {
        let source = &mut self.sources[source];
        let first = source.failing_since.is_none();
        source.failing_since = source.failing_since.or(Some(at));
        first
    }

    fn has(&self, at: usize, now: Instant) -> Has {
        let source = &self.sources[at];
        let failing = source.failing_since;
        if let Some(Said { word, nobody_from }) = &source.said {
            let word = word.clone();
            let counts = Counts { source: at, word, stale_since: failing, from_memory: false };
            return match nobody_from {
                Some(from) if *from <= now => Has::Nobody(counts),
                _ => Has::Somebody(counts),
            };
        }
        let needed = failing.is_some() || now >= self.start + PATIENCE;
        match &source.memory {
            Some(Memory { word, saved_at, until }) if needed && now < *until => {
                let (word, stale_since) = (word.clone(), Some(*saved_at));
                let counts = Counts { source: at, word, stale_since, from_memory: true };
                if counts.word.told.is_empty() {
                    Has::Nobody(counts)
                } else {
                    Has::Somebody(counts)
                }
            }
            _ if failing.is_none() && now < self.awaited_until => Has::NothingYet,
            _ => Has::Nothing,
        }
    }

    /// The first source that has an answer counts. While it may still come, the one does of which
    /// something was remembered. When nobody is anywhere, that is what counts.
    pub(super) fn counts(&self, now: Instant) -> Option<Counts> {
        let all = || (0..self.sources.len()).map(|at| (at, self.has(at, now)));
        for (_, has) in all() {
            match has {
                Has::Somebody(counts) => return Some(counts),
                Has::NothingYet => break,
                Has::Nobody(_) | Has::Nothing => {}
            }
        }
        let meanwhile = all().find_map(|(at, has)| match has {
            Has::Somebody(counts) if self.sources[at].memory.is_some() => Some(counts),
            _ => None,
        });
        meanwhile.or_else(|| {
            let mut said = all().take_while(|(_, has)| !matches!(has, Has::NothingYet));
            said.find_map(|(_, has)| match has {
                Has::Nobody(counts) => Some(counts),
                _ => None,
            })
        })
    }
}
