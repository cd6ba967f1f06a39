//! Policies under load: apps that send their next request when the last is answered, in virtual
//! time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

struct Loop {
    balancer: Balancer,
    weights: Weights,
    rng: fastrand::Rng,
    ewmas: Vec<Ewma>,
    in_flight: Vec<u32>,
    now: Duration,
    /// Apps that have sent nothing yet.
    waiting: usize,
    /// When an answer is due, from whom, and when it was asked for.
    answers: BinaryHeap<Reverse<(Duration, usize, Duration)>>,
}

impl Loop {
    fn new(policy: Policy, weights: &[u32], apps: usize) -> Self {
        let Bench { balancer, weights, rng } = Bench::new(policy, weights, 11);
        Self {
            balancer,
            ewmas: (0..weights.len()).map(|_| Ewma::default()).collect(),
            in_flight: vec![0; weights.len()],
            weights,
            rng,
            now: Duration::ZERO,
            waiting: apps,
            answers: BinaryHeap::new(),
        }
    }

    /// The shares of picks, in percent, over so many seconds in which members take so many
    /// milliseconds, give or take a tenth.
    fn run(&mut self, seconds: u64, millis: impl Fn(usize) -> u32) -> Vec<f64> {
        let end = self.now + Duration::from_secs(seconds);
        let mut picks = vec![0u32; self.weights.len()];
        for _ in 0..std::mem::take(&mut self.waiting) {
            picks[self.send(&millis)] += 1;
        }
        while self.now < end {
            let Some(Reverse((due, index, asked))) = self.answers.pop() else { break };
            self.now = due;
            self.in_flight[index] -= 1;
            self.ewmas[index].observe(due - asked, due.as_millis() as u32);
            picks[self.send(&millis)] += 1;
        }
        let total: u32 = picks.iter().sum();
        picks.iter().map(|picks| f64::from(*picks) * 100.0 / f64::from(total)).collect()
    }

    fn send(&mut self, millis: &impl Fn(usize) -> u32) -> usize {
        let now_ms = self.now.as_millis() as u32;
        let in_flight = |index: usize| self.in_flight[index];
        let ewma = |index: usize| self.ewmas[index].read(now_ms);
        let index = self.balancer.pick(&self.weights, in_flight, ewma, &mut self.rng).unwrap();
        self.in_flight[index] += 1;
        let latency = f64::from(millis(index)) / 1000.0 * (0.9 + 0.2 * self.rng.f64());
        self.answers.push(Reverse((self.now + Duration::from_secs_f64(latency), index, self.now)));
        index
    }
}

fn one_slow(index: usize) -> u32 {
    if index == 3 { 510 } else { 10 }
}

#[test]
fn a_slow_backend_of_four_gets_less_than_a_tenth() {
    // With a single app nothing is ever in flight at a pick: only latencies tell.
    for (policy, apps) in [
        (Policy::LeastRequest, 4),
        (Policy::LeastRequest, 20),
        (Policy::PeakEwma, 1),
        (Policy::PeakEwma, 20),
    ] {
        let shares = Loop::new(policy, &[1; 4], apps).run(5, one_slow);
        assert!(shares[3] <= 10.0, "{policy:?} with {apps}: {shares:?}");
    }
}

#[test]
fn a_backend_that_becomes_slow_is_left_at_once_and_gets_its_share_back() {
    for apps in [1, 20] {
        let mut apps = Loop::new(Policy::PeakEwma, &[1; 4], apps);
        let before = apps.run(10, |_| 10);
        let slow = apps.run(5, one_slow);
        apps.run(60, |_| 10);
        let after = apps.run(10, |_| 10);
        assert!(slow[3] <= 2.0, "{slow:?}");
        for share in before.iter().chain(&after) {
            assert!((share - 25.0).abs() < 3.0, "{before:?}, {after:?}");
        }
    }
}

#[test]
fn latency_that_is_alike_leaves_shares_to_the_weights() {
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        for apps in [1, 20, 100] {
            let shares = Loop::new(policy, &[60, 30, 10], apps).run(60, |_| 10);
            for (share, weight) in shares.iter().zip([60.0, 30.0, 10.0]) {
                assert!((share - weight).abs() < 2.0, "{policy:?} with {apps}: {shares:?}");
            }
        }
    }
}

#[test]
fn a_new_backend_is_tried_but_not_flooded() {
    let mut apps = Loop::new(Policy::PeakEwma, &[1; 4], 20);
    for known in &apps.ewmas[..3] {
        known.observe(Duration::from_millis(10), 0);
    }
    apps.run(4, |index| if index == 3 { 5000 } else { 10 });
    assert_eq!(apps.in_flight[3], 1);
    // One that turns out to be as good as the others is soon one of them.
    let mut apps = Loop::new(Policy::PeakEwma, &[1; 4], 20);
    for known in &apps.ewmas[..3] {
        known.observe(Duration::from_millis(10), 0);
    }
    let shares = apps.run(5, |_| 10);
    assert!((shares[3] - 25.0).abs() < 2.0, "{shares:?}");
}
