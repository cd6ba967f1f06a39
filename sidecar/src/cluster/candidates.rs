//! Who picks choose from.

use super::snapshot::{Entry, State, Verdict};
use crate::balancer::Weights;

/// The backends that picks choose from: all of one tier.
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
}

/// What the choice depends on beside the entries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// In percent. Below this share of eligible backends the ejected ones of a tier are used too;
    /// 0 is never, and then failing backends are not better than none.
    pub(super) panic_threshold: u8,
    /// Whether the sidecar has just started and first verdicts are worth waiting for.
    pub(super) probes_awaited: bool,
}

impl Candidates {
    /// Whether the backend at this place in the snapshot is one of them.
    pub(super) fn has(&self, index: usize) -> bool {
        self.indices.binary_search(&index).is_ok()
    }

    /// The lowest-numbered tier with an eligible backend takes all; who takes it when there is
    /// none is [`doubted`].
    pub(super) fn choose(entries: &[Entry], rules: Rules) -> Self {
        let (found, panic) = match lowest_tier(entries, Entry::is_eligible) {
            Some(tier) => of_tier(entries, tier, rules),
            None => {
                doubted(entries, rules).map_or_else(Default::default, |(tier, usable, panic)| {
                    (places(entries, |e| usable(e) && e.backend.endpoint.priority == tier), panic)
                })
            }
        };
        let indices = without_last_resort(entries, found);
        let trial = |entry: &Entry| entry.on_trial && entry.state() == State::Ejected;
        Self {
            ids: indices.iter().map(|index| entries[*index].backend.id).collect(),
            weights: Weights::new(indices.iter().map(|index| entries[*index].weight)),
            indices,
            panic,
            eligible: entries.iter().filter(|entry| entry.is_eligible()).count(),
            trials: places(entries, trial).into(),
        }
    }
}

/// The eligible backends of a tier, and with too few of them the ejected ones: traffic for many is
/// not put on a few because of a judgement that may be wrong.
fn of_tier(entries: &[Entry], tier: u16, rules: Rules) -> (Vec<usize>, bool) {
    let member = |entry: &&Entry| entry.backend.endpoint.priority == tier;
    let staying = entries.iter().filter(member).filter(|entry| entry.leaving.is_none()).count();
    let eligible = entries.iter().filter(member).filter(|entry| entry.is_eligible()).count();
    let few = eligible * 100 < usize::from(rules.panic_threshold) * staying;
    let ejected = |entry: &Entry| few && is_ejected(entry);
    let used = places(entries, |entry| member(&entry) && (entry.is_eligible() || ejected(entry)));
    let panic = used.len() > eligible;
    (used, panic)
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
    if pending > 0 && pending == staying().count() {
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
