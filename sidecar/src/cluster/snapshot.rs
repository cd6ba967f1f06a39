//! An immutable view of a cluster: its backends, their state, and who may be picked.

use std::sync::Arc;
use std::time::SystemTime;

use super::backend::Backend;
use crate::balancer::Weights;

/// Published whole by the cluster's task; what a reader holds never changes under it.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up by one with every snapshot; 0 before the first.
    pub version: u64,
    /// Every backend, in the order of addresses.
    pub entries: Box<[Entry]>,
    /// The ids of all backends, sorted.
    ids: Box<[u64]>,
    /// Who may be picked now.
    pub candidates: Candidates,
    /// Whether discovery has answered at all.
    pub answered: bool,
    /// Since when the source has failed to confirm this set.
    pub stale_since: Option<SystemTime>,
}

/// One backend and the facts about it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub backend: Arc<Backend>,
    pub state: State,
}

/// What the active checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Failed its probes.
    Unhealthy,
    /// Not probed yet.
    Pending,
    /// Not probed at all, or healthy.
    Ready,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Pending => "pending",
            Self::Ready => "ready",
        }
    }
}

/// The backends that picks choose from: all of one tier.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Places in [`Snapshot::entries`].
    pub indices: Box<[usize]>,
    /// The ids of the backends, in the order of `indices`.
    pub ids: Box<[u64]>,
    /// In the order of `indices`.
    pub weights: Weights,
    /// Whether they are used although their probes fail.
    pub panic: bool,
}

/// What the choice of candidates depends on beside the entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whether failing backends are better than none.
    pub panic_allowed: bool,
    /// Whether the sidecar has just started and first verdicts are worth waiting for.
    pub probes_awaited: bool,
}

impl Candidates {
    /// Ready backends of the lowest-numbered tier that has any. Without one, once first verdicts
    /// are no longer awaited: all backends, when none of them was ever probed; or else, in panic,
    /// those that fail their probes, the lowest tier first.
    pub(super) fn choose(entries: &[Entry], rules: Rules) -> Self {
        if let Some(ready) = Self::tier_of(entries, State::Ready, false) {
            return ready;
        }
        let pending = entries.iter().filter(|entry| entry.state == State::Pending).count();
        let doubted = match pending {
            0 if rules.panic_allowed => Self::tier_of(entries, State::Unhealthy, true),
            0 => None,
            _ if rules.probes_awaited => None,
            all if all == entries.len() => Self::tier_of(entries, State::Pending, false),
            _ if rules.panic_allowed => Self::tier_of(entries, State::Unhealthy, true),
            _ => None,
        };
        doubted.unwrap_or_default()
    }

    /// The lowest-numbered tier that has backends in `state`. Weight 0 is the last resort of
    /// its tier: such backends are used when there are no others in it, in equal shares.
    fn tier_of(entries: &[Entry], state: State, panic: bool) -> Option<Self> {
        let usable = |entry: &&Entry| entry.state == state;
        let tier = entries.iter().filter(usable).map(|e| e.backend.endpoint.priority).min()?;
        let member = |entry: &Entry| usable(&entry) && entry.backend.endpoint.priority == tier;
        let weighted = entries.iter().any(|e| member(e) && e.backend.endpoint.weight > 0);
        let indices: Box<[usize]> = entries
            .iter()
            .enumerate()
            .filter(|(_, e)| member(e) && (!weighted || e.backend.endpoint.weight > 0))
            .map(|(index, _)| index)
            .collect();
        Some(Self {
            ids: indices.iter().map(|index| entries[*index].backend.id).collect(),
            weights: Weights::new(
                indices.iter().map(|index| entries[*index].backend.endpoint.weight),
            ),
            indices,
            panic,
        })
    }
}

impl Snapshot {
    pub(super) fn new(version: u64, entries: Box<[Entry]>, candidates: Candidates) -> Self {
        let mut ids: Box<[u64]> = entries.iter().map(|entry| entry.backend.id).collect();
        ids.sort_unstable();
        Self { version, entries, ids, candidates, answered: false, stale_since: None }
    }

    /// Whether a backend of this id is a member.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Whether every first answer is here: of discovery, and of a probe of each backend.
    pub fn settled(&self) -> bool {
        self.answered && self.entries.iter().all(|entry| entry.state != State::Pending)
    }
}
