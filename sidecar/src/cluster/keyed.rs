//! Where hashed keys lead: a table over all members of a tier, whether they may be used or not.
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

/// A table for each tier that takes traffic.
#[derive(Debug)]
pub struct Keyed(Box<[Tier]>);

#[derive(Debug)]
pub(super) struct Tier {
    tier: u16,
    pub(super) table: Table,
    /// The backends by their place in the table.
    pub(super) ids: Box<[u64]>,
    members: Members,
}

impl Keyed {
    /// The table of a tier; until it is built, the one that there is.
    pub(super) fn of(&self, tier: u16) -> Option<&Tier> {
        self.0.iter().find(|table| table.tier == tier).or(self.0.first())
    }

    fn is_of(&self, wanted: &Wanted) -> bool {
        let members = self.0.iter().map(|table| (table.tier, &table.members));
        members.eq(wanted.0.iter().map(|(tier, members)| (*tier, members)))
    }
}

/// What the tables are to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted(Vec<(u16, Members)>);

impl Wanted {
    /// One table for all tiers would send keys to backends that are to be used only when others
    /// are gone: tables are of the tiers that take the traffic.
    fn of(entries: &[Entry], candidates: &Candidates) -> Self {
        Self(candidates.tiers().map(|tier| (tier, Members::of(entries, tier))).collect())
    }

    /// Takes milliseconds, with many members more: not for a thread that others wait for.
    pub(super) fn build(self) -> Keyed {
        Keyed(self.0.into_iter().map(|(tier, members)| members.build(tier)).collect())
    }

    fn is_small(&self) -> bool {
        self.0.iter().map(|(_, members)| members.0.len()).sum::<usize>() <= FEW
    }
}

/// What a table is made of: the id, the key and the assigned weight of each member of a tier, in the
/// order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Members(Vec<(u64, u64, u32)>);

impl Members {
    fn of(entries: &[Entry], tier: u16) -> Self {
        let in_tier = |entry: &&Entry| entry.backend.endpoint.priority == tier;
        let member = |entry: &Entry| {
            let backend = &entry.backend;
            (backend.id, backend.key, entry.assigned)
        };
        let mut members: Vec<_> = entries.iter().filter(in_tier).map(member).collect();
        members.sort_unstable_by_key(|(_, key, _)| *key);
        Self(members)
    }

    fn build(self, tier: u16) -> Tier {
        let members: Vec<_> = self.0.iter().map(|(_, key, weight)| (*key, *weight)).collect();
        let ids = self.0.iter().map(|(id, ..)| *id).collect();
        Tier { tier, table: Table::new(&members), ids, members: self }
    }
}

/// The current table, and whether another is needed.
#[derive(Debug)]
pub(super) struct Tables {
    /// Whether keys are hashed at all.
    used: bool,
    current: Option<Arc<Keyed>>,
    wanted: Option<Wanted>,
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
        if candidates.indices.is_empty() {
            return;
        }
        let wanted = Wanted::of(entries, candidates);
        match &self.current {
            Some(current) if current.is_of(&wanted) => self.wanted = None,
            None if wanted.is_small() => self.current = Some(Arc::new(wanted.build())),
            _ => self.wanted = Some(wanted),
        }
    }

    /// What a table is to be made of now.
    pub(super) fn wanted(&mut self, now: Instant) -> Option<Wanted> {
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
