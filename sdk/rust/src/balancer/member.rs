//! A backend as direct mode has it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tonic::transport::Channel;

use crate::backend::Backend;
use crate::report::Outcome;

use super::tally::Tally;

/// A backend of one set.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    pub(super) kept: Arc<Kept>,
}

/// What stays with a backend from set to set.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) tally: Tally,
    /// Its own connection, once a [`BalancedChannel`](super::BalancedChannel) has sent something there.
    pub(super) channel: OnceLock<Channel>,
}

/// A backend that was picked.
#[derive(Debug, Clone)]
pub struct Pick {
    pub(super) member: Arc<Member>,
}

impl Pick {
    /// Where to connect: the backend's name is its address.
    pub fn name(&self) -> &str {
        &self.member.backend.name
    }

    pub fn backend(&self) -> &Backend {
        &self.member.backend
    }

    /// Tells how it ended, and how long the backend took to answer, if that is known. It reaches the
    /// sidecar within about 0.1 s, together with others; what cannot be told then is left out.
    pub fn report(&self, outcome: Outcome, latency: Option<Duration>) {
        self.member.kept.tally.add(outcome, latency);
    }
}
