//! Who picks choose from.

use super::snapshot::{Entry, State, Verdict};
use super::tiers::{self, ALL, Share};
use crate::balancer::Weights;

/// What the weights of all candidates add up to where several tiers share the traffic.
const SCALE: u128 = 1 << 28;

/// The backends that picks choose from: of one tier, or of those that share the traffic.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Places in [`Snapshot::entries`](super::Snapshot::entries).
    pub indices: Box<[usize]>,
    /// The ids of the backends, in the order of `indices`.
    pub ids: Box<[u64]>,
    /// In the order of `indices`.
    pub weights: Weights,
    /// Whether some of them are used although there are doubts about them.
    pub panic: bool,
    /// Backends that are eligible, of all tiers.
    pub eligible: usize,
    /// Places of ejected backends that one request each may try.
    pub trials: Box<[usize]>,
    /// The tiers that they are of, each with the end of its part of the keys, of [`ALL`].
    tiers: Box<[(u16, u32)]>,
}

/// What the choice depends on beside the entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// In percent. Below this share of eligible backends the ejected ones of a tier are used too;
    /// 0 is never, and then failing backends are not better than none.
    pub(super) panic_threshold: u8,
    /// Whether a tier that is short of eligible backends shares its traffic with the next.
    pub(super) tier_spill: bool,
    /// Whether the sidecar has just started and first verdicts are worth waiting for.
    pub(super) probes_awaited: bool,
}

impl Candidates {
    /// Whether the backend at this place in the snapshot is one of them.
    pub(super) fn has(&self, index: usize) -> bool {
        self.indices.binary_search(&index).is_ok()
    }

    /// The tier whose part of the keys this one is in.
    pub(super) fn tier_of(&self, hash: u64) -> Option<u16> {
        // Tables use the hash in other ways, so that the parts of a tier's table are hit evenly.
        let point = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u32;
        let part = self.tiers.partition_point(|(_, end)| *end <= point);
        self.tiers.get(part).or(self.tiers.last()).map(|(tier, _)| *tier)
    }

    /// The tiers that they are of, the lowest first.
    pub(super) fn tiers(&self) -> impl Iterator<Item = u16> {
        self.tiers.iter().map(|(tier, _)| *tier)
    }

    /// Which tiers take traffic is said by [`tiers::shares`]; who does when nobody is eligible, by
    /// [`doubted`].
    pub(super) fn choose(entries: &[Entry], rules: Rules) -> Self {
        let shares = tiers::shares(entries, rules.tier_spill, rules.panic_threshold);
        let (chosen, panic) = match shares.is_empty() {
            false => of_tiers(entries, &shares),
            true => {
                doubted(entries, rules).map_or_else(Default::default, |(tier, usable, panic)| {
                    let of_tier = |e: &Entry| usable(e) && e.backend.endpoint.priority == tier;
                    (vec![Part { tier, share: ALL, places: places(entries, of_tier) }], panic)
                })
            }
        };
        let (mut end, mut tiers) = (0, Vec::new());
        let mut weighted: Vec<(usize, u32)> = Vec::new();
        for part in chosen {
            end += part.share;
            tiers.push((part.tier, end));
            weighted.extend(part.weighted(entries));
        }
        weighted.sort_unstable_by_key(|(place, _)| *place);
        let trial = |entry: &Entry| entry.on_trial && entry.state() == State::Ejected;
        Self {
            indices: weighted.iter().map(|(place, _)| *place).collect(),
            ids: weighted.iter().map(|(place, _)| entries[*place].backend.id).collect(),
            weights: Weights::grouped(
                weighted
                    .iter()
                    .map(|(place, weight)| (*weight, entries[*place].backend.endpoint.priority)),
            ),
            panic,
            eligible: entries.iter().filter(|entry| entry.is_eligible()).count(),
            trials: places(entries, trial).into(),
            tiers: tiers.into(),
        }
    }
}

/// The candidates of one tier.
struct Part {
    tier: u16,
    /// Of the traffic, of [`ALL`].
    share: u32,
    places: Vec<usize>,
}

impl Part {
    /// Each with its weight. Where tiers share the traffic, the weights of each add up to its share.
    fn weighted(self, entries: &[Entry]) -> Vec<(usize, u32)> {
        let places = without_last_resort(entries, self.places);
        let weight = |place: &usize| u128::from(entries[*place].weight.max(1));
        let total: u128 = places.iter().map(weight).sum();
        let scaled = |place: usize| match self.share {
            ALL => (place, entries[place].weight),
            share => {
                let part = weight(&place) * u128::from(share) * SCALE / (total * u128::from(ALL));
                (place, u32::try_from(part).unwrap_or(u32::MAX).max(1))
            }
        };
        places.iter().copied().map(scaled).collect()
    }
}

/// The eligible backends of these tiers, and the ejected ones of those that are short of them: traffic
/// for many is not put on a few because of a judgement that may be wrong.
fn of_tiers(entries: &[Entry], shares: &[Share]) -> (Vec<Part>, bool) {
    let mut panic = false;
    let part = |share: &Share| {
        let of_tier = |entry: &Entry| entry.backend.endpoint.priority == share.tier;
        let doubted = |entry: &Entry| of_tier(entry) && share.short && is_ejected(entry);
        let used = places(entries, |e| of_tier(e) && e.is_eligible() || doubted(e));
        panic |= entries.iter().any(doubted);
        Part { tier: share.tier, share: share.share, places: used }
    };
    let parts = shares.iter().map(part).collect();
    (parts, panic)
}

type Usable = fn(&Entry) -> bool;

/// Who is used when nobody is eligible: once first verdicts are no longer awaited, all backends if
/// none of them was ever probed; or else, in panic, those that are ejected or stalled but pass
/// their probes, those that nobody knows yet, and at last those that fail their probes, each the
/// lowest tier first.
fn doubted(entries: &[Entry], rules: Rules) -> Option<(u16, Usable, bool)> {
    let is_pending: Usable = |entry| entry.state() == State::Pending;
    let is_doubted: Usable = |entry| entry.state() == State::Ejected;
    let is_failing: Usable = |entry| entry.state() == State::Unhealthy && !entry.is_critical();
    let staying = || entries.iter().filter(|entry| entry.leaving.is_none());
    let pending = staying().filter(|entry| is_pending(entry)).count();
    if pending > 0 && rules.probes_awaited {
        return None;
    }
    // Who is critical is used in no case, so that the others are all that there is.
    if pending > 0 && pending == staying().filter(|entry| !entry.is_critical()).count() {
        return lowest_tier(entries, is_pending).map(|tier| (tier, is_pending, false));
    }
    if rules.panic_threshold == 0 {
        return None;
    }
    [is_doubted, is_pending, is_failing]
        .into_iter()
        .find_map(|usable| lowest_tier(entries, usable).map(|tier| (tier, usable, true)))
}

fn is_ejected(entry: &Entry) -> bool {
    entry.state() == State::Ejected && entry.ejection.is_some() && entry.probe == Verdict::Healthy
}

fn lowest_tier(entries: &[Entry], usable: impl Fn(&Entry) -> bool) -> Option<u16> {
    entries.iter().filter(|entry| usable(entry)).map(|e| e.backend.endpoint.priority).min()
}

fn places(entries: &[Entry], wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
    let wanted = |(index, entry): (usize, &Entry)| wanted(entry).then_some(index);
    entries.iter().enumerate().filter_map(wanted).collect()
}

/// Weight 0 is the last resort of its tier: such backends are used when there are no others in it,
/// in equal shares.
fn without_last_resort(entries: &[Entry], mut places: Vec<usize>) -> Box<[usize]> {
    let weighted = |index: &usize| entries[*index].assigned > 0;
    if places.iter().any(weighted) {
        places.retain(weighted);
    }
    places.into()
}
