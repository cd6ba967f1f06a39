//! What is ordered of one backend, and what its weight and its drains come to by that.
//!
//! Orders are kept beside what discovery says and never change it, so that each is taken back
//! exactly.

use std::sync::Arc;

use tokio::time::Instant;

use super::endpoint::WEIGHT_ONE;
use super::owner::Owner;

/// Orders to this sidecar about one backend.
pub(super) const MAX_ORDERS: usize = 64;
/// No order makes a weight greater, in 256ths.
const MAX_WEIGHT: u64 = u16::MAX as u64 * WEIGHT_ONE as u64;

/// One order to this sidecar.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub owner: Owner,
    pub what: Override,
    /// When it ends by itself; `None`: with its lease, or when it is taken back.
    pub until: Option<Instant>,
}

/// What an order changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Override {
    /// The weight instead of discovery's.
    Weight(u16),
    /// What the weight is multiplied by, in 256ths.
    Factor(u32),
    /// It drains, and what is left is cut then.
    Drain(Instant),
}

/// Of each kind an owner has one order for a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Weight,
    Drain,
}

impl Override {
    pub(super) fn sort(self) -> Sort {
        match self {
            Self::Weight(_) | Self::Factor(_) => Sort::Weight,
            Self::Drain(_) => Sort::Drain,
        }
    }
}

/// All orders about one backend.
#[derive(Debug, Clone, Default)]
pub struct Ordered {
    /// Those to this sidecar, the latest last.
    own: Arc<[Given]>,
    /// A weight for the whole fleet.
    pub fleet: Option<u16>,
}

impl Ordered {
    pub fn own(&self) -> &[Given] {
        &self.own
    }

    /// Another order, instead of one of the same owner; false when there are too many of others.
    pub(super) fn give(&mut self, given: Given) -> bool {
        let replaced =
            |old: &Given| old.owner == given.owner && old.what.sort() == given.what.sort();
        let kept = || self.own.iter().filter(|old| !replaced(old));
        if kept().count() >= MAX_ORDERS {
            return false;
        }
        let mut own: Vec<_> = kept().cloned().collect();
        own.push(given);
        self.own = own.into();
        true
    }

    /// Takes orders back, and gives them away.
    pub(super) fn take(&mut self, taken: impl Fn(&Given) -> bool) -> Vec<Given> {
        if !self.own.iter().any(&taken) {
            return Vec::new();
        }
        let (out, kept): (Vec<_>, Vec<_>) = self.own.iter().cloned().partition(taken);
        self.own = kept.into();
        out
    }

    /// In 256ths: the latest order to this sidecar comes before one for the fleet, and that before
    /// what is `discovered`; then come the factors.
    pub(super) fn assigned(&self, discovered: u32) -> u32 {
        let mut replaced = None;
        let mut factors = Vec::new();
        for given in &*self.own {
            match given.what {
                Override::Weight(weight) => replaced = Some(weight),
                Override::Factor(factor) => factors.push(u64::from(factor)),
                Override::Drain(_) => {}
            }
        }
        let base =
            replaced.or(self.fleet).map_or(discovered, |weight| u32::from(weight) * WEIGHT_ONE);
        let multiplied = factors.into_iter().fold(u64::from(base), |weight, factor| {
            let least = u64::from(weight > 0 && factor > 0);
            // Both are below 2^32.
            (weight * factor / u64::from(WEIGHT_ONE)).clamp(least, MAX_WEIGHT)
        });
        u32::try_from(multiplied).unwrap_or(u32::MAX)
    }

    /// When what is left is cut, if an order lets it drain.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        let deadline = |given: &Given| match given.what {
            Override::Drain(deadline) => Some(deadline),
            Override::Weight(_) | Override::Factor(_) => None,
        };
        self.own.iter().filter_map(deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, what: Override) -> Given {
        Given { owner: Owner::app(name.into(), None, "".into()), what, until: None }
    }

    fn of(name: &str) -> impl Fn(&Given) -> bool {
        move |given| *given.owner.name == *name
    }

    #[test]
    fn the_latest_weight_counts_and_factors_multiply() {
        let mut ordered = Ordered { fleet: Some(7), ..Ordered::default() };
        assert_eq!(ordered.assigned(256), 7 * 256);
        assert!(ordered.give(given("a", Override::Weight(10))));
        assert!(ordered.give(given("b", Override::Weight(20))));
        assert!(ordered.give(given("c", Override::Factor(128))));
        assert!(ordered.give(given("d", Override::Factor(3 * 256))));
        assert_eq!(ordered.assigned(256), 30 * 256);
        // Another of the same owner takes the place of the first, and is the latest.
        assert!(ordered.give(given("a", Override::Weight(2))));
        assert_eq!((ordered.assigned(256), ordered.own().len()), (3 * 256, 4));
        ordered.take(of("a"));
        assert_eq!(ordered.assigned(256), 30 * 256);
        for name in ["b", "c", "d"] {
            ordered.take(of(name));
        }
        assert_eq!(ordered.assigned(256), 7 * 256);
        ordered.fleet = None;
        assert_eq!(ordered.assigned(300), 300);
    }

    #[test]
    fn a_factor_rounds_nothing_to_0_and_goes_beyond_no_weight() {
        let mut ordered = Ordered::default();
        ordered.give(given("a", Override::Factor(1)));
        assert_eq!((ordered.assigned(256), ordered.assigned(1), ordered.assigned(0)), (1, 1, 0));
        ordered.give(given("a", Override::Factor(1000 * 256)));
        ordered.give(given("b", Override::Factor(1000 * 256)));
        assert_eq!(ordered.assigned(65_535 * 256), 65_535 * 256);
        ordered.give(given("a", Override::Factor(0)));
        assert_eq!(ordered.assigned(65_535 * 256), 0);
    }

    #[test]
    fn there_is_a_bound_that_keeps_nobody_from_changing_what_it_has() {
        let mut ordered = Ordered::default();
        for owner in 0..MAX_ORDERS {
            assert!(ordered.give(given(&owner.to_string(), Override::Weight(1))));
        }
        assert!(!ordered.give(given("more", Override::Weight(2))));
        assert_eq!(ordered.assigned(256), 256);
        assert!(ordered.give(given("0", Override::Weight(3))));
        assert_eq!(ordered.assigned(256), 3 * 256);
    }
}
