//! `round_robin`: everyone in turn, as often as the weights say, interleaved.
//!
//! Earliest deadline first: a candidate of weight w is due every `PERIOD / w` ticks, and the one
//! that is due first is picked. Weights 5, 1, 1 give a a b a c a a and not a a a a a b c, a pick
//! costs O(log n), and over any stretch of picks each share is right to within one pick per
//! candidate. Phases start at random, so that a fleet that starts together, or two workers of
//! one sidecar, do not all begin with the same backend. When the set changes, those that stay
//! keep their place in the turn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Weights;

/// Ticks between two picks of a candidate of weight 1. Large against every weight (at most 2^28,
/// where tiers share the traffic), so that the rounding of `PERIOD / w` does not show in the shares.
const PERIOD: u64 = 1 << 40;
/// When time has come this far it starts again: a busy sidecar gets here within days.
const RESTART: u64 = 1 << 62;

/// The turn of one worker over one set of candidates.
#[derive(Debug, Default)]
pub struct RoundRobin {
    /// When each candidate is due, the earliest on top; then its index.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    ids: Vec<u64>,
    /// The deadline of the latest pick: nobody new is due before it.
    now: u64,
}

impl RoundRobin {
    pub(super) fn update(&mut self, ids: &[u64], weights: &Weights, rng: &mut fastrand::Rng) {
        let kept: HashMap<u64, u64> =
            self.due.iter().map(|Reverse((due, index))| (self.ids[*index], *due)).collect();
        let now = self.now;
        self.due = ids
            .iter()
            .enumerate()
            .map(|(index, id)| {
                let period = PERIOD / u64::from(weights.get(index));
                let due = match kept.get(id) {
                    // A weight that grew does not wait for the turn of its smaller self.
                    Some(due) => (*due).min(now + period),
                    None => now + rng.u64(..period.max(1)),
                };
                Reverse((due, index))
            })
            .collect();
        self.ids = ids.to_vec();
    }

    pub(super) fn pick(&mut self, weights: &Weights) -> Option<usize> {
        let mut next = self.due.peek_mut()?;
        let Reverse((due, index)) = *next;
        *next = Reverse((due + PERIOD / u64::from(weights.get(index)), index));
        drop(next);
        self.now = due;
        if due > RESTART {
            self.restart();
        }
        Some(index)
    }

    fn restart(&mut self) {
        let now = std::mem::take(&mut self.now);
        let entries = std::mem::take(&mut self.due).into_iter();
        self.due = entries
            .map(|Reverse((due, index))| Reverse((due.saturating_sub(now), index)))
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_goes_on_when_time_starts_again() {
        let weights = Weights::new([2, 1]);
        let mut turn = RoundRobin::default();
        turn.update(&[1, 2], &weights, &mut fastrand::Rng::with_seed(3));
        let before: Vec<_> = (0..6).map(|_| turn.pick(&weights)).collect();
        turn.now += RESTART;
        let entries = std::mem::take(&mut turn.due).into_iter();
        turn.due = entries.map(|Reverse((due, index))| Reverse((due + RESTART, index))).collect();
        let after: Vec<_> = (0..6).map(|_| turn.pick(&weights)).collect();
        assert_eq!(before, after);
        assert!(turn.now < RESTART);
    }
}
