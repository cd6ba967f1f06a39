//! An immutable view of a cluster: its backends, the facts about them, and who may be picked.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::backend::{self, Backend};
use super::candidates::Candidates;
use super::drain::{Cut, Leaving};
use super::keyed::Keyed;
use super::order::OrderError;
use super::ordered::Ordered;
use super::outlier::Ejection;

/// Published whole by the cluster's task; what a reader holds never changes under it.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up by one with every snapshot; 0 before the first.
    pub version: u64,
    /// Every backend, in the order of addresses; those that drain are still there.
    pub entries: Box<[Entry]>,
    /// The ids of all backends with their places in `entries`, sorted.
    by_id: Box<[(u64, usize)]>,
    /// What cookies call the backends, with their places, sorted; empty without cookies.
    by_tag: Box<[(u64, usize)]>,
    /// Who may be picked now.
    pub candidates: Candidates,
    /// Where hashed keys lead; `None` where keys are not hashed, or before the first table.
    pub keyed: Option<Arc<Keyed>>,
    /// The source whose answer this is, by its place in the configuration; `None` before there
    /// was one.
    pub source: Option<usize>,
    /// Since when the source has failed to confirm this set.
    pub stale_since: Option<SystemTime>,
    /// Whether it is from an earlier life.
    pub from_memory: bool,
}

/// One backend and the facts about it: several may hold at once.
#[derive(Debug, Clone)]
pub struct Entry {
    pub backend: Arc<Backend>,
    pub probe: Verdict,
    pub ejection: Option<Ejection>,
    /// Whether one request may find out if an ejected backend has recovered.
    pub on_trial: bool,
    /// Whether it takes work and answers none.
    pub stalled: bool,
    pub leaving: Option<Leaving>,
    /// When work that it has is ended by force.
    pub cut: Cut,
    /// Discovery has dropped it together with too many others, and is believed from then on.
    pub suspect_until: Option<Instant>,
    pub ordered: Ordered,
    /// The weight that it is to have, in 256ths.
    pub assigned: u32,
    /// The weight that it has now, which may still grow to that.
    pub weight: u32,
}

/// What the active checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Failed its probes.
    Unhealthy,
    /// Not probed yet.
    Pending,
    /// Not probed at all, or healthy.
    Healthy,
}

/// What is shown of a backend: the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Draining,
    Unhealthy,
    Ejected,
    Pending,
    Ready,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Pending => "pending",
            Self::Ready => "ready",
        }
    }
}

impl Entry {
    pub fn state(&self) -> State {
        match self.probe {
            _ if self.leaving.is_some() => State::Draining,
            _ if self.is_critical() => State::Unhealthy,
            Verdict::Unhealthy => State::Unhealthy,
            _ if self.ejection.is_some() || self.stalled => State::Ejected,
            Verdict::Pending => State::Pending,
            Verdict::Healthy => State::Ready,
        }
    }

    /// Whether its source says that it must not be used.
    pub fn is_critical(&self) -> bool {
        !self.backend.endpoint.is_usable()
    }

    /// Whether nothing speaks against new work.
    pub(super) fn is_eligible(&self) -> bool {
        self.state() == State::Ready
    }

    /// Whether work whose affinity names it may arrive. That it has not been probed yet says
    /// nothing against it: it is this sidecar that is new, or its work is known from another one.
    fn takes_affinity(&self) -> bool {
        let stays = self.leaving.is_none_or(|leaving| leaving.keeps_affinity);
        let doubted = self.probe == Verdict::Unhealthy || self.ejection.is_some() || self.stalled;
        stays && !doubted && !self.is_critical()
    }
}

impl Snapshot {
    pub(super) fn new(version: u64, entries: Box<[Entry]>, candidates: Candidates) -> Self {
        let mut by_id: Box<[_]> =
            entries.iter().enumerate().map(|(index, entry)| (entry.backend.id, index)).collect();
        by_id.sort_unstable();
        let tags = |(index, entry): (usize, &Entry)| {
            let tags = entry.backend.tags;
            tags.into_iter().flat_map(|tags| tags.all()).map(move |tag| (tag, index))
        };
        let mut by_tag: Box<[_]> = entries.iter().enumerate().flat_map(tags).collect();
        by_tag.sort_unstable();
        Self { version, entries, by_id, by_tag, candidates, ..Self::default() }
    }

    /// The place of the backend with this id.
    pub fn find(&self, id: u64) -> Option<usize> {
        find(&self.by_id, id)
    }

    /// The entry of the backend of this name, or of the only one whose target or node is called so.
    pub fn named(&self, name: &str) -> Result<&Entry, OrderError> {
        let backend = backend::named(self.entries.iter().map(|entry| &entry.backend), name)?;
        let unknown = || OrderError::Unknown(name.into());
        self.find(backend.id).map(|index| &self.entries[index]).ok_or_else(unknown)
    }

    /// The place of the backend that a cookie calls by this.
    pub fn find_tag(&self, tag: u64) -> Option<usize> {
        find(&self.by_tag, tag)
    }

    /// Whether affinity may lead to the backend at this place: there is nothing against it, or
    /// everyone uses it for want of better ones.
    pub(super) fn may_stay(&self, index: usize) -> bool {
        self.entries[index].takes_affinity() || self.candidates.has(index)
    }

    /// Whether discovery knows of nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.leaving.is_some_and(|leaving| leaving.removed))
    }

    /// Whether connections to the backend with this id may be kept for later.
    pub fn keeps(&self, id: u64) -> bool {
        self.find(id).is_some_and(|index| self.entries[index].leaving.is_none())
    }

    /// Whether every first answer is here: of discovery, and of a probe of each backend.
    pub fn settled(&self) -> bool {
        self.source.is_some() && self.entries.iter().all(|entry| entry.probe != Verdict::Pending)
    }
}

fn find(sorted: &[(u64, usize)], key: u64) -> Option<usize> {
    let place = sorted.binary_search_by_key(&key, |(key, _)| *key).ok()?;
    Some(sorted[place].1)
}
