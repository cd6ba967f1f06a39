//! Which tiers take the traffic, and how much of it each.
//!
//! By default the lowest-numbered tier with an eligible backend takes all. With `tier_spill` a tier
//! takes all as long as 1.4 times the share of it that is eligible is at least one; what is missing
//! spills to the next tier, and so on, as Envoy does (its "Priority levels"). When all tiers together
//! take less than all, their shares grow in proportion.

use std::collections::BTreeMap;

use super::snapshot::Entry;

/// All of the traffic.
pub(super) const ALL: u32 = 1 << 16;
/// How much more than its share a tier can take, in percent.
const OVERPROVISIONED: u64 = 140;

/// A tier that takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) tier: u16,
    /// Of [`ALL`].
    pub(super) share: u32,
    /// Whether so few are eligible, in this tier and in all, that doubted ones are used too.
    pub(super) short: bool,
}

/// A tier's members that do not drain.
#[derive(Debug, Default)]
struct Count {
    staying: u32,
    eligible: u32,
}

impl Count {
    /// How much of the traffic it could take.
    fn health(&self) -> u32 {
        let eligible = u64::from(self.eligible) * u64::from(ALL) * OVERPROVISIONED;
        let health = eligible.checked_div(u64::from(self.staying) * 100).unwrap_or(0);
        u32::try_from(health).unwrap_or(ALL).min(ALL)
    }

    fn is_short(&self, panic_threshold: u8) -> bool {
        self.eligible * 100 < u32::from(panic_threshold) * self.staying
    }
}

/// The tiers that take traffic, the lowest first; none when nobody is eligible.
pub(super) fn shares(entries: &[Entry], spill: bool, panic_threshold: u8) -> Vec<Share> {
    let mut tiers: BTreeMap<u16, Count> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.leaving.is_none()) {
        let count = tiers.entry(entry.backend.endpoint.priority).or_default();
        count.staying += 1;
        count.eligible += u32::from(entry.is_eligible());
    }
    let mut able = tiers.into_iter().filter(|(_, count)| count.eligible > 0);
    if !spill {
        let first = able.next().map(|(tier, count)| Share {
            tier,
            share: ALL,
            short: count.is_short(panic_threshold),
        });
        return first.into_iter().collect();
    }
    let (mut left, mut shares) = (ALL, Vec::new());
    for (tier, count) in able {
        let share = count.health().min(left);
        left -= share;
        if share > 0 {
            shares.push(Share { tier, share, short: count.is_short(panic_threshold) });
        }
    }
    let taken = ALL - left;
    for share in &mut shares {
        // Panic is for when even all of them are too few.
        share.short &= left > 0;
        share.share = u32::try_from(u64::from(share.share) * u64::from(ALL) / u64::from(taken))
            .unwrap_or(ALL);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(eligible: u32, staying: u32) -> u32 {
        Count { staying, eligible }.health()
    }

    #[test]
    fn five_of_seven_are_enough_and_what_is_less_is_missing() {
        assert_eq!((health(7, 7), health(5, 7), health(3, 4)), (ALL, ALL, ALL));
        assert_eq!((health(0, 4), health(0, 0)), (0, 0));
        let share = f64::from(health(2, 4)) / f64::from(ALL);
        assert!((share - 0.7).abs() < 1e-4, "{share}");
    }
}
