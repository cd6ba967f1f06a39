//! The weights of a set of candidates, and a draw in proportion to them.

/// Positive weights by index, with their running sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    weights: Box<[u32]>,
    /// `sums[i]` is the sum of `weights[..=i]`, in 64 bits so that no set overflows it.
    sums: Box<[u64]>,
}

impl Weights {
    /// A weight of 0 counts as 1: who must not be picked is not in the set.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Box<[u32]> = weights.into_iter().map(|weight| weight.max(1)).collect();
        let sums = weights
            .iter()
            .scan(0u64, |sum, weight| {
                *sum += u64::from(*weight);
                Some(*sum)
            })
            .collect();
        Self { weights, sums }
    }

    pub fn len(&self) -> usize {
        self.weights.len()
    }

    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    pub fn get(&self, index: usize) -> u32 {
        self.weights.get(index).copied().unwrap_or(1)
    }

    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    /// An index, drawn in proportion to the weights.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<usize> {
        let point = (self.total() > 0).then(|| rng.u64(..self.total()))?;
        Some(self.at(point))
    }

    /// As `draw`, but another than `not`; `None` when there is no other.
    pub(super) fn draw_other(&self, not: usize, rng: &mut fastrand::Rng) -> Option<usize> {
        let own = u64::from(*self.weights.get(not)?);
        let others = self.total() - own;
        let point = (others > 0).then(|| rng.u64(..others))?;
        // Points are numbered as if `not` were cut out of the line.
        let before = self.sums[not] - own;
        Some(self.at(if point < before { point } else { point + own }))
    }

    fn at(&self, point: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= point)
    }
}
