//! Properties that every policy must have, over random sets.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod closed_loop;

const POLICIES: [Policy; 4] =
    [Policy::RoundRobin, Policy::LeastRequest, Policy::PeakEwma, Policy::Random];

/// All alike, where latency is not the matter.
fn even(_: usize) -> Option<Duration> {
    Some(Duration::from_millis(10))
}

struct Bench {
    balancer: Balancer,
    weights: Weights,
    rng: fastrand::Rng,
}

impl Bench {
    fn new(policy: Policy, weights: &[u32], seed: u64) -> Self {
        let mut bench = Self {
            balancer: Balancer::new(policy),
            weights: Weights::default(),
            rng: fastrand::Rng::with_seed(seed),
        };
        let ids: Vec<u64> = (0..weights.len() as u64).collect();
        bench.update(&ids, weights);
        bench
    }

    fn update(&mut self, ids: &[u64], weights: &[u32]) {
        self.weights = Weights::new(weights.iter().copied());
        self.balancer.update(ids, &self.weights, &mut self.rng);
    }

    fn pick(&mut self) -> Option<usize> {
        self.balancer.pick(&self.weights, |_| 0, even, &mut self.rng)
    }

    fn pick_other(&mut self, tried: impl Fn(usize) -> bool) -> Option<usize> {
        self.balancer.pick_other(&self.weights, |_| 0, even, tried, &mut self.rng)
    }

    fn counts(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.weights.len()];
        for _ in 0..picks {
            counts[self.pick().unwrap()] += 1;
        }
        counts
    }
}

proptest! {
    /// Whoever was tried is not picked again, and somebody is as long as anyone is left.
    #[test]
    fn only_members_are_picked(weights in vec(1u32..=16_776_960, 0..12), tried in any::<u16>(), seed: u64) {
        for policy in POLICIES {
            let mut bench = Bench::new(policy, &weights, seed);
            let tried = |index: usize| tried & (1 << index) != 0;
            let anyone = (0..weights.len()).any(|index| !tried(index));
            for _ in 0..30 {
                let first = bench.pick();
                prop_assert_eq!(first.is_some(), !weights.is_empty());
                prop_assert!(first.is_none_or(|index| index < weights.len()));
                let other = bench.pick_other(tried);
                prop_assert_eq!(other.is_some(), anyone);
                prop_assert!(other.is_none_or(|index| index < weights.len() && !tried(index)));
            }
        }
    }

    /// Round robin owes nobody more than one turn at any time.
    #[test]
    fn round_robin_is_exact_over_every_stretch(weights in vec(1u32..=50, 1..8), seed: u64, picks in 1usize..400) {
        let mut bench = Bench::new(Policy::RoundRobin, &weights, seed);
        let counts = bench.counts(picks);
        let total: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let owed = picks as f64 * f64::from(*weight) / f64::from(total);
            // One turn for the place in it, and one for each other candidate's phase, spread
            // over the round in proportion to the weight.
            let slack = 1.0 + weights.len() as f64 * f64::from(*weight) / f64::from(total);
            prop_assert!((*count as f64 - owed).abs() <= slack, "{:?} of {:?}", counts, weights);
        }
    }

    /// Equal weights: a strict rotation, so no backend is picked twice before all were once.
    #[test]
    fn round_robin_with_equal_weights_rotates(n in 1usize..10, weight in 1u32..70_000, seed: u64) {
        let mut bench = Bench::new(Policy::RoundRobin, &vec![weight; n], seed);
        let first: Vec<_> = (0..n).map(|_| bench.pick()).collect();
        for expected in first.iter().cycle().take(3 * n) {
            prop_assert_eq!(bench.pick(), *expected);
        }
    }

    /// A set that changes with every few picks still gives everyone a turn.
    #[test]
    fn round_robin_keeps_the_turn_over_updates(seed: u64, n in 2u64..8) {
        let mut bench = Bench::new(Policy::RoundRobin, &vec![1; n as usize], seed);
        let mut counts = vec![0u32; n as usize];
        for round in 0..40 {
            // One member that comes and goes makes a new set each time.
            let mut ids: Vec<u64> = (0..n).collect();
            if round % 2 == 0 {
                ids.push(100 + round);
            }
            bench.update(&ids, &vec![1; ids.len()]);
            let picked = ids[bench.pick().unwrap()];
            if let Some(count) = counts.get_mut(picked as usize) {
                *count += 1;
            }
        }
        prop_assert!(counts.iter().all(|count| *count >= 2), "{:?}", counts);
    }
}

#[test]
fn shares_follow_the_weights() {
    let weights = [60, 30, 10];
    for policy in POLICIES {
        let counts = Bench::new(policy, &weights.map(|w| w * 256), 7).counts(100_000);
        for (count, weight) in counts.iter().zip(weights) {
            let share = *count as f64 / 1000.0;
            // Ties go to the first of two draws, which follows the weights; a tie broken any
            // other way would pull the shares together.
            assert!((share - f64::from(weight)).abs() < 1.0, "{policy:?}: {counts:?}");
        }
    }
}

#[test]
fn starts_are_spread() {
    let mut firsts = [0u32; 4];
    for seed in 0..400 {
        let first = Bench::new(Policy::RoundRobin, &[1; 4], seed).pick().unwrap();
        firsts[first] += 1;
    }
    assert!(firsts.iter().all(|count| (60..140).contains(count)), "{firsts:?}");
}

#[test]
fn least_request_prefers_the_idle_for_their_weight() {
    let weights = Weights::new([1, 1]);
    let mut rng = fastrand::Rng::with_seed(1);
    let busy_first = |index: usize| if index == 0 { 5 } else { 4 };
    for _ in 0..50 {
        assert_eq!(least_request::pick(&weights, busy_first, |_| false, &mut rng), Some(1));
    }
    // Twice the weight carries twice the load before it counts as busier.
    let weights = Weights::new([2, 1]);
    for _ in 0..50 {
        assert_eq!(least_request::pick(&weights, |i| [5, 3][i], |_| false, &mut rng), Some(0));
    }
}

#[test]
fn peak_ewma_prefers_who_answers_sooner_for_its_weight() {
    let prefers = |weights: [u32; 2], in_flight: [u32; 2], millis: [Option<u64>; 2]| {
        let weights = Weights::new(weights);
        let ewma = |index: usize| millis[index].map(Duration::from_millis);
        let picks: Vec<_> = (0..50)
            .map(|seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                peak_ewma::pick(&weights, |index| in_flight[index], ewma, |_| false, &mut rng)
            })
            .collect();
        picks[0].filter(|first| picks.iter().all(|pick| *pick == Some(*first)))
    };
    // Latency counts with nothing in flight, unless it is about the same; and more with each
    // request that is.
    assert_eq!(prefers([1, 1], [0, 0], [Some(16), Some(10)]), Some(1));
    assert_eq!(prefers([1, 1], [0, 0], [Some(14), Some(10)]), None);
    assert_eq!(prefers([1, 1], [1, 0], [Some(10), Some(14)]), Some(1));
    assert_eq!(prefers([1, 1], [0, 3], [Some(30), Some(10)]), Some(0));
    assert_eq!(prefers([1, 1], [0, 1], [Some(30), Some(10)]), Some(1));
    // Twice the weight carries twice the load before it counts as busier.
    assert_eq!(prefers([2, 1], [5, 3], [Some(10), Some(10)]), Some(0));
    assert_eq!(prefers([2, 1], [4, 2], [Some(10), Some(10)]), None);
    assert_eq!(prefers([2, 1], [0, 0], [Some(10), Some(10)]), None);
    // Without a history it is tried at once, and then not again until it has answered, however
    // busy the others are. One that was fast long ago is as good as unknown.
    assert_eq!(prefers([1, 1], [0, 0], [None, Some(1)]), Some(0));
    assert_eq!(prefers([1, 1], [1, 900], [None, Some(1000)]), Some(1));
    assert_eq!(prefers([1, 1], [1, 900], [Some(0), Some(1000)]), Some(1));
    // Where nobody has one, load decides.
    assert_eq!(prefers([1, 1], [3, 2], [None, None]), Some(1));
    assert_eq!(prefers([1, 1], [2, 2], [None, None]), None);
}

#[test]
fn only_peak_ewma_asks_for_latencies() {
    let weights = Weights::new([1; 4]);
    for policy in POLICIES {
        let asked = std::cell::Cell::new(0);
        let ewma = |index: usize| {
            asked.set(asked.get() + 1);
            even(index)
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut balancer = Balancer::new(policy);
        balancer.update(&[1, 2, 3, 4], &weights, &mut rng);
        balancer.pick(&weights, |_| 1, ewma, &mut rng);
        balancer.pick_other(&weights, |_| 1, ewma, |_| false, &mut rng);
        assert_eq!(asked.get(), if policy == Policy::PeakEwma { 4 } else { 0 }, "{policy:?}");
    }
}

#[test]
fn the_largest_set_does_not_overflow() {
    let weights = Weights::new(std::iter::repeat_n(65_535 * 256, 5_000));
    assert_eq!(weights.total(), 5_000 * 65_535 * 256);
    let mut rng = fastrand::Rng::with_seed(1);
    let longest = |_: usize| Some(Duration::MAX);
    for policy in POLICIES {
        let mut balancer = Balancer::new(policy);
        balancer.update(&(0..5_000).collect::<Vec<_>>(), &weights, &mut rng);
        for _ in 0..10_000 {
            assert!(balancer.pick(&weights, |_| u32::MAX, longest, &mut rng).is_some());
        }
    }
}

#[test]
fn further_attempts_take_nobodys_turn_and_are_spread() {
    let mut bench = Bench::new(Policy::RoundRobin, &[1; 3], 5);
    let (mut dead_first, mut others) = (0, [0u32; 3]);
    for _ in 0..3000 {
        let first = bench.pick().unwrap();
        if first == 0 {
            dead_first += 1;
            others[bench.pick_other(|index| index == 0).unwrap()] += 1;
        }
    }
    assert_eq!(dead_first, 1000);
    assert!(others[0] == 0 && others[1].abs_diff(others[2]) < 100, "{others:?}");
}
