//! What the sources of a cluster say, and whose word counts.
//!
//! The first source in the configuration that has an answer is the one that is used. One that
//! fails keeps its last answer. One has none when it failed before it ever answered, when it has
//! said nothing for `start_timeout`, or when it says that there is nobody and that has lasted for
//! `removal_hold`.
//!
//! While the first one is awaited, the one serves of which something is remembered, since that was
//! used last: from memory, and from then on with what it says itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::answer::Answer;
use super::endpoint::Endpoint;
use crate::config;
use crate::net::Address;

/// Endpoints by address.
pub(super) type Set = Arc<BTreeMap<Address, Endpoint>>;

/// A source that says nothing for so long at the start is served from memory.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Sources {
    said: Box<[Said]>,
    hold: Option<Duration>,
    /// When memory is used even without a failure.
    patient_until: Instant,
    /// When a source that has never answered has no answer.
    awaited_until: Instant,
}

/// What one source has said.
#[derive(Debug, Default)]
struct Said {
    known: Option<Known>,
    failing_since: Option<SystemTime>,
    /// Whether something of an earlier life was known of it.
    remembered: bool,
}

#[derive(Debug)]
struct Known {
    set: Set,
    decided: bool,
    from: From,
}

#[derive(Debug, Clone, Copy)]
enum From {
    /// The source. An empty set counts from then on.
    Source { empty_from: Instant },
    /// The disk, where it was saved then; of no use after this instant.
    Memory { saved_at: SystemTime, until: Option<Instant> },
}

/// The answer that is used.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) source: usize,
    pub(super) set: Set,
    /// Nothing is held back: an empty set is what is meant.
    pub(super) decided: bool,
    /// Since when nobody has confirmed it.
    pub(super) stale_since: Option<SystemTime>,
    pub(super) from_memory: bool,
}

/// What an answer has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    /// Whether it is another set than before.
    pub(super) changed: bool,
    /// Whether the source had failed before.
    pub(super) recovered: bool,
    /// Endpoints above the bound.
    pub(super) left_out: usize,
}

impl Sources {
    pub(super) fn new(settings: &config::Cluster, now: Instant, awaited_until: Instant) -> Self {
        Self {
            said: settings.sources.iter().map(|_| Said::default()).collect(),
            hold: settings.removal_hold,
            patient_until: now + PATIENCE,
            awaited_until,
        }
    }

    pub(super) fn answered(&mut self, answer: Answer, now: Instant) -> Option<News> {
        let hold = self.hold.filter(|_| !answer.decided).unwrap_or_default();
        // What is remembered and of no use is nothing that could be lost.
        let had_any = self.known(self.said.get(answer.source)?, now).is_some();
        let said = self.said.get_mut(answer.source)?;
        let recovered = said.failing_since.take().is_some();
        let (endpoints, left_out) = Endpoint::merge(answer.endpoints);
        let before = said.known.take().filter(|_| had_any);
        let changed = before.as_ref().is_none_or(|known| *known.set != endpoints);
        let empty_from = match &before {
            Some(Known { from: From::Source { empty_from }, .. }) if !changed => {
                (*empty_from).min(now + hold)
            }
            Some(known) if !known.set.is_empty() => now + hold,
            _ => now,
        };
        let set = match before {
            Some(known) if !changed => known.set,
            _ => Arc::new(endpoints),
        };
        let from = From::Source { empty_from };
        said.known = Some(Known { set, decided: answer.decided, from });
        Some(News { changed, recovered, left_out })
    }

    /// True when it had not failed before.
    pub(super) fn failed(&mut self, source: usize, at: SystemTime) -> bool {
        let Some(said) = self.said.get_mut(source) else { return false };
        let first = said.failing_since.is_none();
        said.failing_since.get_or_insert(at);
        first
    }

    /// What a source had said in an earlier life. `until`: it is of no use after that.
    pub(super) fn remember(
        &mut self,
        source: usize,
        saved_at: SystemTime,
        endpoints: Vec<Endpoint>,
        until: Option<Instant>,
    ) {
        if let Some(said) = self.said.get_mut(source).filter(|said| said.known.is_none()) {
            let set = Arc::new(Endpoint::merge(endpoints).0);
            let from = From::Memory { saved_at, until };
            said.known = Some(Known { set, decided: false, from });
            said.remembered = true;
        }
    }

    /// The answer that counts now; `None` while the first is awaited, or when there is none.
    pub(super) fn choose(&self, now: Instant) -> Option<Chosen> {
        let mut nobody = None;
        for (source, said) in self.said.iter().enumerate() {
            match self.known(said, now) {
                None if self.is_awaited(said, now) => return self.meanwhile(now).or(nobody),
                None => {}
                Some(known) if known.is_nobody(now) => {
                    nobody = nobody.or_else(|| Some(said.chosen(source, known)));
                }
                Some(known) => return Some(said.chosen(source, known)),
            }
        }
        nobody
    }

    /// The answer of a source, unless it is a memory that is not needed yet, or too old.
    fn known<'s>(&self, said: &'s Said, now: Instant) -> Option<&'s Known> {
        said.known.as_ref().filter(|known| match known.from {
            From::Source { .. } => true,
            From::Memory { until, .. } => {
                let needed = said.failing_since.is_some() || now >= self.patient_until;
                needed && until.is_none_or(|until| now < until)
            }
        })
    }

    fn is_awaited(&self, said: &Said, now: Instant) -> bool {
        said.failing_since.is_none() && now < self.awaited_until
    }

    /// What serves while the first one is awaited.
    fn meanwhile(&self, now: Instant) -> Option<Chosen> {
        let mut remembered = self.said.iter().enumerate().filter(|(_, said)| said.remembered);
        remembered.find_map(|(source, said)| {
            let known = self.known(said, now).filter(|known| !known.is_nobody(now))?;
            Some(said.chosen(source, known))
        })
    }

    /// When the choice may be another, even without an answer.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let times = self.said.iter().flat_map(|said| {
            let awaited = said.failing_since.is_none().then_some(self.awaited_until);
            match &said.known {
                None => [awaited, None, None],
                // A memory may be too old before its source is no longer awaited.
                Some(Known { from: From::Memory { until, .. }, .. }) => {
                    [awaited, Some(self.patient_until), *until]
                }
                Some(Known { set, from: From::Source { empty_from }, .. }) => {
                    [set.is_empty().then_some(*empty_from), None, None]
                }
            }
        });
        times.flatten().filter(|at| *at > now).min()
    }
}

impl Said {
    fn chosen(&self, source: usize, known: &Known) -> Chosen {
        let (stale_since, from_memory) = match known.from {
            From::Source { .. } => (self.failing_since, false),
            From::Memory { saved_at, .. } => (Some(saved_at), true),
        };
        let (set, decided) = (Arc::clone(&known.set), known.decided);
        Chosen { source, set, decided, stale_since, from_memory }
    }
}

impl Known {
    /// Whether the source says that there is nobody, and is to be believed.
    fn is_nobody(&self, now: Instant) -> bool {
        let believed = match self.from {
            From::Source { empty_from } => empty_from <= now,
            From::Memory { .. } => true,
        };
        self.set.is_empty() && believed
    }
}

#[cfg(test)]
mod tests;
