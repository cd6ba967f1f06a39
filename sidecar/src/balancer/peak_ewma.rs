//! `peak_ewma`: of two drawn by weight, the one where a request should be answered sooner.
//!
//! A backend's cost is its latency times the requests that would then be there (Finagle's and
//! linkerd's "peak EWMA"): unlike `least_request` it notices a slow backend with nothing in
//! flight. Weights count as in `least_request`: work in flight is taken for its weight, while
//! the request to be placed counts the same everywhere. Dividing that one by the weight too would
//! have the heavier of two idle backends always win, on top of being drawn more often.
//!
//! Latencies less than half apart count as even, and load decides: they are noise, or a matter of
//! who was asked last. Taken at their word they would say who wins a pair every time, and weights
//! of 60, 30 and 10 would give shares of 37, 40 and 22 as long as little is in flight.
//!
//! Who has no history costs nothing while it is idle, so that a new backend is tried the first
//! time it is drawn; and once a request is there, more than anyone with a history, so that until
//! the first answer it gets no second one unless the other choice is as new. The caller must
//! therefore observe failures as well, or a backend that refuses every connection stays cheap.

use std::time::Duration;

use super::{Weights, two_choices};

/// The latency, in seconds, of a backend that has work but no history: above any that is real.
const UNKNOWN: f64 = 1e6;
/// An average that has come down to this, in seconds, is no history any more: no answer is that
/// fast, so it is long ago. Taken at its word it would make a backend free, whatever its load.
const FORGOTTEN: f64 = 1e-6;
/// By this factor two latencies must differ to count as different.
const APART: f64 = 1.5;

/// What is known of one of the two.
struct Choice {
    weight: f64,
    in_flight: f64,
    latency: f64,
}

pub(super) fn pick(
    weights: &Weights,
    in_flight: impl Fn(usize) -> u32,
    ewma: impl Fn(usize) -> Option<Duration>,
    skip: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let choice = |index: usize| {
        let in_flight = in_flight(index);
        let latency = latency(ewma(index), in_flight);
        Choice { weight: weights.get(index).into(), in_flight: in_flight.into(), latency }
    };
    let mean_weight = weights.total() as f64 / weights.len() as f64;
    two_choices::pick(weights, skip, rng, |a, b| choice(a).is_fine(&choice(b), mean_weight))
}

/// In seconds.
fn latency(ewma: Option<Duration>, in_flight: u32) -> f64 {
    match ewma.map(|ewma| ewma.as_secs_f64()).filter(|seconds| *seconds > FORGOTTEN) {
        Some(seconds) => seconds,
        None if in_flight == 0 => 0.0,
        None => UNKNOWN,
    }
}

impl Choice {
    /// Whether the other is no better.
    fn is_fine(&self, other: &Self, mean_weight: f64) -> bool {
        // The load of each is in flight × mean weight / weight + 1. Both are multiplied by the
        // same number such that nothing is divided by a weight: what is even stays even.
        let placed = self.weight * other.weight / mean_weight;
        let load = self.in_flight * other.weight + placed;
        let other_load = other.in_flight * self.weight + placed;
        let (least, most) = (self.latency.min(other.latency), self.latency.max(other.latency));
        if most <= least * APART {
            load <= other_load
        } else {
            self.latency * load <= other.latency * other_load
        }
    }
}
