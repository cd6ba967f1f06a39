//! The weights of a set of candidates, and a draw in proportion to them.

/// Positive weights by index, with their running sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    weights: Box<[u32]>,
    /// `sums[i]` is the sum of `weights[..=i]`, in 64 bits so that no set overflows it.
    sums: Box<[u64]>,
    /// The group of each, where there are several; empty otherwise.
    groups: Box<[u16]>,
}

/// How often a second of the same group is looked for; without one, the first has no rival.
const LOOKS: usize = 8;

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
        Self { weights, sums, groups: Box::default() }
    }

    /// Candidates of several groups, each of which is to get the share that its weights add up to: a
    /// candidate has rivals in its own group only, or those with less to do in another group would
    /// take from it.
    pub fn grouped(weights: impl IntoIterator<Item = (u32, u16)>) -> Self {
        let (weights, groups): (Vec<u32>, Vec<u16>) = weights.into_iter().unzip();
        let one = groups.windows(2).all(|pair| pair[0] == pair[1]);
        Self { groups: if one { Box::default() } else { groups.into() }, ..Self::new(weights) }
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

    /// As `draw`, but another than `not`, of its group; `None` when there is no other.
    pub(super) fn draw_other(&self, not: usize, rng: &mut fastrand::Rng) -> Option<usize> {
        if self.groups.is_empty() {
            return self.draw_any_other(not, rng);
        }
        let group = self.groups.get(not)?;
        (0..LOOKS)
            .filter_map(|_| self.draw_any_other(not, rng))
            .find(|other| self.groups.get(*other) == Some(group))
    }

    fn draw_any_other(&self, not: usize, rng: &mut fastrand::Rng) -> Option<usize> {
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
