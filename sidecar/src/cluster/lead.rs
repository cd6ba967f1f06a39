//! Where the key of a request leads.

use tokio::time::Instant;

use super::pick::Wish;
use super::{Cluster, Entry, Snapshot};
use crate::balancer::{Bound, hash};
use crate::config::AffinityKey;

/// What keeps a client at a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    None,
    /// The id of the backend that the app has bound it to.
    Pinned(u64),
    /// The name that a cookie has for the backend.
    Tag(u64),
    /// The hash of a key that leads to the backend it was given first.
    Learned(u64),
    /// The hash of a key that leads to a backend by itself.
    Hashed(u64),
}

impl Key {
    pub fn learned(key: &[u8]) -> Self {
        Self::Learned(hash(key))
    }

    pub fn hashed(key: &[u8]) -> Self {
        Self::Hashed(hash(key))
    }
}

/// Where a key leads; places are those in [`Snapshot::entries`].
#[derive(Debug)]
pub(super) enum Lead {
    /// It belongs nowhere yet.
    Nowhere,
    /// To the backend at this place, where it belongs.
    Home(usize),
    /// Where it belongs nothing may be sent now: to a backend of this id, or to nobody who is
    /// known. For keys that are hashed somebody is next.
    Away { home: Option<u64>, next: Option<usize> },
}

impl Lead {
    pub(super) fn of(cluster: &Cluster, snapshot: &Snapshot, wish: &Wish<'_>) -> Self {
        let place = match wish.key {
            Key::None => return Self::Nowhere,
            Key::Hashed(hash) => return Self::hashed(cluster, snapshot, hash, wish),
            Key::Pinned(id) => snapshot.find(id),
            Key::Tag(tag) => snapshot.find_tag(tag),
            Key::Learned(hash) => {
                let lesson = cluster.learned.as_ref().and_then(|all| all.get(hash, wish.now));
                let Some(id) = lesson else { return Self::Nowhere };
                snapshot.find(id)
            }
        };
        let Some(place) = place else { return Self::Away { home: None, next: None } };
        let home = snapshot.entries[place].backend.id;
        match !wish.tried.contains(&home) && snapshot.may_stay(place) {
            true => Self::Home(place),
            false => Self::Away { home: Some(home), next: None },
        }
    }

    fn hashed(cluster: &Cluster, snapshot: &Snapshot, hash: u64, wish: &Wish<'_>) -> Self {
        let tier = snapshot.candidates.tier_of(hash);
        let keyed = snapshot.keyed.as_ref().zip(tier).and_then(|(keyed, tier)| keyed.of(tier));
        let Some(keyed) = keyed else { return Self::Nowhere };
        let Some(first) = keyed.table.lookup(hash) else { return Self::Nowhere };
        let place = |member: usize| snapshot.find(keyed.ids[member]);
        let usable = |member: usize| {
            let fresh = !wish.tried.contains(&keyed.ids[member]);
            fresh && place(member).is_some_and(|place| snapshot.candidates.has(place))
        };
        let member = match cluster.settings.affinity.bounded_load {
            None => keyed.table.pick(hash, usable),
            Some(percent) => {
                let load = |member: usize| {
                    place(member).map_or(0, |place| snapshot.entries[place].backend.in_flight())
                };
                keyed.table.pick_bounded(hash, usable, load, bound(snapshot, tier, percent))
            }
        };
        match (member, member.and_then(place)) {
            (Some(member), Some(place)) if member == first => Self::Home(place),
            (_, next) => Self::Away { home: Some(keyed.ids[first]), next },
        }
    }
}

/// Where a key would go now, and what leads it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    pub reason: Reason,
    /// The place of the backend in the snapshot; `None`: the policy decides, or nobody may be used.
    pub place: Option<usize>,
}

/// What leads a key to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Pin,
    Learned,
    Hash,
    /// Nothing does.
    Policy,
}

impl Cluster {
    /// Where this key would go, should a request or a connection bring it now.
    pub fn whereabouts(&self, snapshot: &Snapshot, key: &[u8], now: Instant) -> Whereabouts {
        let (key, reason) = match (self.pins.backend(key), &self.settings.affinity.key) {
            (Some(id), _) => (Key::Pinned(id), Reason::Pin),
            (None, AffinityKey::Header { learned: true }) => (Key::learned(key), Reason::Learned),
            (None, AffinityKey::Header { learned: false }) => (Key::hashed(key), Reason::Hash),
            (None, _) => (Key::None, Reason::Policy),
        };
        let wish = Wish { key, tried: &[], replayable: false, now };
        let place = match Lead::of(self, snapshot, &wish) {
            Lead::Home(place) => Some(place),
            Lead::Away { next, .. } if !self.settings.affinity.strict => next,
            Lead::Away { .. } | Lead::Nowhere => None,
        };
        // A key that was never learned, or whose backend may not be used, is in the policy's hands.
        let reason = if place.is_some() { reason } else { Reason::Policy };
        Whereabouts { reason, place }
    }
}

/// How much of all the load of its tier one backend may have.
fn bound(snapshot: &Snapshot, tier: Option<u16>, percent: u16) -> Bound {
    let entries = || snapshot.candidates.indices.iter().map(|i| &snapshot.entries[*i]);
    let of_tier = |entry: &&Entry| tier == Some(entry.backend.endpoint.priority);
    Bound {
        total_load: entries().filter(of_tier).map(|e| u64::from(e.backend.in_flight())).sum(),
        // Whose weight is 0 counts as 1 in a table.
        total_weight: entries().filter(of_tier).map(|e| u64::from(e.assigned.max(1))).sum(),
        factor_percent: u32::from(percent),
    }
}
