//! What is written down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::metrics::End;

/// What became of a connection, a session or a request.
#[derive(Debug)]
pub struct Entry {
    /// Empty: there is none.
    pub cluster: Arc<str>,
    pub client: Option<SocketAddr>,
    /// `None`: nobody was asked.
    pub backend: Option<Arc<str>>,
    pub lasted: Duration,
    pub moved: Moved,
    pub end: End,
    /// What only requests have.
    pub request: Option<Request>,
}

/// Bytes that were passed on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Moved {
    pub to_backend: u64,
    pub from_backend: u64,
}

/// A request and its answer; of one that could not be read nothing is known that it said.
#[derive(Debug)]
pub struct Request {
    /// Of the answer; 499 is an app that left before it.
    pub status: u16,
    /// Why the answer is one of our own.
    pub error: Option<&'static str>,
    /// How many backends were asked.
    pub attempts: usize,
    pub version: Option<&'static str>,
    pub method: Option<Text>,
    /// Without the query, which may hold secrets.
    pub path: Option<Text>,
    pub host: Option<Text>,
    pub user_agent: Option<Text>,
}

/// Bytes that somebody outside has chosen, as many as a line takes.
#[derive(Debug)]
pub struct Text(pub(super) Box<[u8]>);

impl Text {
    const MOST: usize = 1 << 10;

    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(Self::MOST)].into())
    }
}
