//! `random`: each pick is drawn in proportion to the weights.
//!
//! It keeps no state, so workers and sidecars cannot fall into step, and costs O(log n).

use super::Weights;

/// Draws this often before it looks through the set: a retry leaves out one or two candidates,
/// which a few draws get past in all but the most lopsided sets.
const DRAWS: usize = 4;

pub(super) fn pick(
    weights: &Weights,
    skip: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    for _ in 0..DRAWS {
        let index = weights.draw(rng)?;
        if !skip(index) {
            return Some(index);
        }
    }
    // Draw among those that are left, with an exact answer to whether anyone is.
    let left: Vec<usize> = (0..weights.len()).filter(|index| !skip(*index)).collect();
    let among_left = Weights::new(left.iter().map(|index| weights.get(*index)));
    among_left.draw(rng).map(|index| left[index])
}
