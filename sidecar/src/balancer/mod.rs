//! How a pick is made: one policy a file for those without an affinity key, and the keyed table
//! for those with one.
//!
//! The algorithms see candidates as indices with weights and loads, and know nothing of backends,
//! sockets or clocks; chance is an argument. That makes each a few lines and lets properties be
//! tested over thousands of sets. State that a policy keeps between picks belongs to one worker,
//! so a pick takes no lock; the price is that shares are exact per worker, not over all of them.

mod ewma;
mod least_request;
mod maglev;
mod peak_ewma;
mod random;
mod round_robin;
mod two_choices;
mod weights;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ewma::Ewma;
pub use maglev::{Bound, Table, hash};
pub use round_robin::RoundRobin;
pub use weights::Weights;

/// How a backend is picked for work without an affinity key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    #[default]
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Random,
}

impl Policy {
    /// The name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastRequest => "least_request",
            Self::PeakEwma => "peak_ewma",
            Self::Random => "random",
        }
    }
}

/// A policy with the state that it keeps from one pick to the next.
#[derive(Debug)]
pub enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest,
    PeakEwma,
    Random,
}

impl Balancer {
    pub fn new(policy: Policy) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            Policy::LeastRequest => Self::LeastRequest,
            Policy::PeakEwma => Self::PeakEwma,
            Policy::Random => Self::Random,
        }
    }

    /// Takes over a new set of candidates. `ids` names them, one for each weight, so that what
    /// is known about those that stay is kept.
    pub fn update(&mut self, ids: &[u64], weights: &Weights, rng: &mut fastrand::Rng) {
        match self {
            Self::RoundRobin(state) => state.update(ids, weights, rng),
            Self::LeastRequest | Self::PeakEwma | Self::Random => {}
        }
    }

    /// The index of the candidate to use; `None` when there are none. `weights` is the set of the
    /// last `update`; `in_flight` is the work that a candidate has, `ewma` the latency that is
    /// expected of it, if anything is. They are asked of those that come into question only, and
    /// by the policies that go by them.
    pub fn pick(
        &mut self,
        weights: &Weights,
        in_flight: impl Fn(usize) -> u32,
        ewma: impl Fn(usize) -> Option<Duration>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(state) => state.pick(weights),
            Self::LeastRequest => least_request::pick(weights, in_flight, |_| false, rng),
            Self::PeakEwma => peak_ewma::pick(weights, in_flight, ewma, |_| false, rng),
            Self::Random => weights.draw(rng),
        }
    }

    /// As `pick`, for a further attempt: never one of those that were `tried`. It is drawn, in
    /// round robin too: taking the next in turn would have the one after a dead backend carry
    /// that one's share, and everyone's turn would come round sooner for each failure.
    pub fn pick_other(
        &self,
        weights: &Weights,
        in_flight: impl Fn(usize) -> u32,
        ewma: impl Fn(usize) -> Option<Duration>,
        tried: impl Fn(usize) -> bool,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        match self {
            Self::LeastRequest => least_request::pick(weights, in_flight, tried, rng),
            Self::PeakEwma => peak_ewma::pick(weights, in_flight, ewma, tried, rng),
            Self::RoundRobin(_) | Self::Random => random::pick(weights, tried, rng),
        }
    }
}

#[cfg(test)]
mod tests;
