//! `least_request`: of two drawn by weight, the one with less work in flight for its weight.
//!
//! Drawing by weight and comparing load / weight both count the weight: under equal loads the
//! shares follow the weights, and queues even out in proportion to them.

use super::{Weights, two_choices};

pub(super) fn pick(
    weights: &Weights,
    in_flight: impl Fn(usize) -> u32,
    skip: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    // Compared by multiplying across: a division would lose the difference between small loads.
    let cost = |one: usize, other| u64::from(in_flight(one)) * u64::from(weights.get(other));
    two_choices::pick(weights, skip, rng, |a, b| cost(a, b) <= cost(b, a))
}
