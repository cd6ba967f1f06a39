//! The better of two candidates drawn by weight: what `least_request` and `peak_ewma` share.
//!
//! Two choices are enough to keep the longest queue at O(log log n) where one choice gives
//! O(log n / log log n), and unlike a full scan they do not send every sidecar to the same idle
//! backend at once (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE
//! TPDS 2001). The first is drawn as `random` draws, so where the two are even and the first is
//! taken, shares follow the weights.

use super::{Weights, random};

/// `first_is_fine` is asked about two different candidates, neither of which is to be skipped.
pub(super) fn pick(
    weights: &Weights,
    skip: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
    first_is_fine: impl FnOnce(usize, usize) -> bool,
) -> Option<usize> {
    let first = weights.draw(rng)?;
    let second = weights.draw_other(first, rng).unwrap_or(first);
    match (skip(first), skip(second)) {
        (false, false) if first == second || first_is_fine(first, second) => Some(first),
        (_, false) => Some(second),
        (false, true) => Some(first),
        (true, true) => random::pick(weights, skip, rng),
    }
}
