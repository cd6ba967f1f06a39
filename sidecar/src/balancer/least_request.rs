//! `least_request`: of two drawn by weight, the one with less work in flight for its weight.
//!
//! Two choices are enough to keep the longest queue at O(log log n) where one choice gives
//! O(log n / log log n), and unlike a full scan they do not send every sidecar to the same idle
//! backend at once (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE
//! TPDS 2001). Drawing by weight and comparing load / weight both count the weight: under equal
//! loads the shares follow the weights, and queues even out in proportion to them.

use super::{Weights, random};

pub(super) fn pick(
    weights: &Weights,
    load: impl Fn(usize) -> u32,
    skip: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let first = weights.draw(rng)?;
    let second = weights.draw_other(first, rng).unwrap_or(first);
    match (skip(first), skip(second)) {
        (false, false) => Some(less_loaded(first, second, weights, load)),
        (false, true) => Some(first),
        (true, false) => Some(second),
        (true, true) => random::pick(weights, skip, rng),
    }
}

/// The first when they are even. Compared by multiplying across: a division would lose the
/// difference between small loads.
fn less_loaded(a: usize, b: usize, weights: &Weights, load: impl Fn(usize) -> u32) -> usize {
    let cost = |index: usize, other: usize| u64::from(load(index)) * u64::from(weights.get(other));
    if cost(a, b) <= cost(b, a) { a } else { b }
}
