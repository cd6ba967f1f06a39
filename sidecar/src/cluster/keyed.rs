//! Where hashed keys lead: a table over all members, whether they may be used or not.
//!
//! It is made of names and assigned weights only, so that neither probes nor slow starts nor
//! drains rebuild it: whoever may not be used is passed over at the pick, and only its keys move.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::candidates::Candidates;
use super::snapshot::Entry;
use crate::balancer::Table;

/// Tables follow each other no faster than this.
const BUILD_EVERY: Duration = Duration::from_millis(100);
/// Up to so many members the first table is made on the spot, so that the first keys go where
/// later ones will.
const FEW: usize = 100;

#[derive(Debug)]
pub struct Keyed {
    pub(super) table: Table,
    /// The backends by their place in the table.
    pub(super) ids: Box<[u64]>,
    members: Members,
}

/// What a table is made of: the id, the key and the assigned weight of each member of the lowest
/// tier, in the order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members(Vec<(u64, u64, u32)>);

impl Members {
    /// One table for all tiers would send keys to backends that are to be used only when others
    /// are gone: the table is of the tier that takes the traffic.
    pub(super) fn of(entries: &[Entry], tier: u16) -> Self {
        let in_tier = |entry: &&Entry| entry.backend.endpoint.priority == tier;
        let member = |entry: &Entry| {
            let backend = &entry.backend;
            (backend.id, backend.key, entry.assigned)
        };
        let mut members: Vec<_> = entries.iter().filter(in_tier).map(member).collect();
        members.sort_unstable_by_key(|(_, key, _)| *key);
        Self(members)
    }

    /// Takes milliseconds, with many members more: not for a thread that others wait for.
    pub(super) fn build(self) -> Keyed {
        let members: Vec<_> = self.0.iter().map(|(_, key, weight)| (*key, *weight)).collect();
        let ids = self.0.iter().map(|(id, ..)| *id).collect();
        Keyed { table: Table::new(&members), ids, members: self }
    }
}

/// The current table, and whether another is needed.
#[derive(Debug)]
pub(super) struct Tables {
    /// Whether keys are hashed at all.
    used: bool,
    current: Option<Arc<Keyed>>,
    wanted: Option<Members>,
    building: bool,
    begun: Option<Instant>,
}

impl Tables {
    pub(super) fn new(used: bool) -> Self {
        Self { used, current: None, wanted: None, building: false, begun: None }
    }

    pub(super) fn current(&self) -> Option<Arc<Keyed>> {
        self.current.clone()
    }

    /// Looks whether the current table is of these.
    pub(super) fn follow(&mut self, entries: &[Entry], candidates: &Candidates) {
        if !self.used {
            return;
        }
        // Without candidates nobody asks, and the table of before may soon be right again.
        let Some(first) = candidates.indices.first() else { return };
        let members = Members::of(entries, entries[*first].backend.endpoint.priority);
        match &self.current {
            Some(current) if current.members == members => self.wanted = None,
            None if members.0.len() <= FEW => self.current = Some(Arc::new(members.build())),
            _ => self.wanted = Some(members),
        }
    }

    /// What a table is to be made of now.
    pub(super) fn wanted(&mut self, now: Instant) -> Option<Members> {
        let soon = self.begun.is_some_and(|begun| now < begun + BUILD_EVERY);
        if self.building || soon || self.wanted.is_none() {
            return None;
        }
        (self.building, self.begun) = (true, Some(now));
        self.wanted.take()
    }

    pub(super) fn built(&mut self, keyed: Arc<Keyed>) {
        self.building = false;
        self.current = Some(keyed);
    }
}
