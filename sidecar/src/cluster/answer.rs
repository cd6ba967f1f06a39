//! What a source of discovery says.

use std::time::SystemTime;

use super::endpoint::Endpoint;

/// A whole set: who is not in it is gone.
#[derive(Debug)]
pub struct Answer {
    /// Which of the cluster's sources it is from, by its place in the configuration.
    pub source: usize,
    pub at: SystemTime,
    pub endpoints: Vec<Endpoint>,
    /// Whether the source takes an empty set for what is wanted, as the SRV target `.` says, so
    /// that nothing is held back.
    pub decided: bool,
}

impl Answer {
    pub fn new(source: usize, at: SystemTime, endpoints: Vec<Endpoint>) -> Self {
        Self { source, at, endpoints, decided: false }
    }
}
