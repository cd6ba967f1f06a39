//! How much work a backend has, in one word.
//!
//! Three counts change with every attempt: those in flight, those of them that wait for an answer,
//! and those that were answered at all. Kept apart they would cost an atomic each at every step;
//! side by side in one word each step is one addition.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the two lower counts: four million attempts, far above every bound on connections.
const BITS: u32 = 22;
const MASK: u64 = (1 << BITS) - 1;
const IN_FLIGHT: u64 = 1;
const WAITING: u64 = 1 << BITS;
const ANSWERED: u64 = 1 << (2 * BITS);

#[derive(Debug, Default)]
pub(super) struct Load(AtomicU64);

impl Load {
    /// An attempt begins, and waits for its answer.
    pub(super) fn begin(&self) {
        self.0.fetch_add(IN_FLIGHT + WAITING, Ordering::Relaxed);
    }

    /// As `begin`, unless so many are in flight.
    pub(super) fn try_begin(&self, limit: u32) -> bool {
        let begun = |word: u64| {
            (word & MASK < u64::from(limit)).then(|| word.wrapping_add(IN_FLIGHT + WAITING))
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begun).is_ok()
    }

    /// It does not wait for its answer while it is still being sent.
    pub(super) fn sending(&self) {
        self.0.fetch_sub(WAITING, Ordering::Relaxed);
    }

    /// All of it was sent.
    pub(super) fn sent(&self) {
        self.0.fetch_add(WAITING, Ordering::Relaxed);
    }

    /// The head of its answer is here. `waiting`: that it was waited for.
    pub(super) fn answer(&self, waiting: bool) {
        let waiting = if waiting { WAITING } else { 0 };
        self.0.fetch_add(ANSWERED - waiting, Ordering::Relaxed);
    }

    /// So many were answered that nobody has counted in flight.
    pub(super) fn answered_elsewhere(&self, count: u32) {
        self.0.fetch_add(ANSWERED.wrapping_mul(count.into()), Ordering::Relaxed);
    }

    /// `waiting`: that an answer is still waited for.
    pub(super) fn end(&self, waiting: bool) {
        let waiting = if waiting { WAITING } else { 0 };
        self.0.fetch_sub(IN_FLIGHT + waiting, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> u32 {
        (self.0.load(Ordering::Relaxed) & MASK) as u32
    }

    pub(super) fn counts(&self) -> Counts {
        let word = self.0.load(Ordering::Relaxed);
        Counts { waiting: ((word >> BITS) & MASK) as u32, answered: (word >> (2 * BITS)) as u32 }
    }
}

/// A look at a [`Load`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Attempts that were sent and wait for an answer.
    pub(super) waiting: u32,
    /// Attempts that were answered, modulo [`Counts::WRAP`].
    pub(super) answered: u32,
}

impl Counts {
    const WRAP: u32 = 1 << (64 - 2 * BITS);

    /// Answers since an earlier look; right as long as it is not a million answers ago.
    pub(super) fn answered_since(self, earlier: Self) -> u32 {
        self.answered.wrapping_sub(earlier.answered) % Self::WRAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_do_not_run_into_each_other() {
        let load = Load::default();
        let before = load.counts();
        for _ in 0..3_000_000 {
            load.begin();
            load.answer(true);
            load.end(false);
        }
        assert_eq!((load.in_flight(), load.counts().waiting), (0, 0));
        let earlier = load.counts();
        for _ in 0..5 {
            load.begin();
        }
        load.answer(true);
        load.end(true);
        assert_eq!((load.in_flight(), load.counts().waiting), (4, 3));
        load.sending();
        assert_eq!((load.in_flight(), load.counts().waiting), (4, 2));
        load.end(false);
        load.sent();
        assert_eq!((load.in_flight(), load.counts().waiting), (3, 3));
        assert_eq!(load.counts().answered_since(earlier), 1);
        assert_eq!(earlier.answered_since(before), 3_000_000 % Counts::WRAP);
    }

    #[test]
    fn a_limit_is_not_passed() {
        let load = Load::default();
        assert!(load.try_begin(2) && load.try_begin(2) && !load.try_begin(2));
        load.end(true);
        assert!(load.try_begin(2));
    }
}
