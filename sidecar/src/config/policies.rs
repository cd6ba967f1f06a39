//! What happens to the work of a cluster when things go wrong.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone)]
pub struct Retry {
    /// At least 1.
    pub attempts: usize,
    /// Percent of the requests.
    pub budget: u8,
    pub min_per_second: u32,
    pub per_try_timeout: Option<Duration>,
    pub hedge_after: Option<Duration>,
    pub on_status: Vec<RangeInclusive<u16>>,
}

/// Passive judgement by real traffic.
#[derive(Debug, Clone)]
pub struct Outlier {
    pub consecutive: u32,
    pub consecutive_connect: u32,
    pub base_ejection: Duration,
    pub max_ejection: Duration,
    /// Percent of the backends.
    pub max_ejected: u8,
}

#[derive(Debug, Clone)]
pub struct Drain {
    pub timeout: Duration,
    pub keep_affinity: bool,
    pub on_unhealthy: OnLeaving,
    pub on_removal: OnLeaving,
}

/// What happens to the work of a backend that gets no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLeaving {
    /// It may stay for as long as it likes.
    Keep,
    /// It has until the timeout.
    Drain,
    /// It is closed at once.
    Terminate,
}

#[derive(Debug, Clone)]
pub struct Affinity {
    pub key: AffinityKey,
    /// The field, in lower case, with the key that is hashed or learned, or that an app has pinned.
    pub header: String,
    /// `None`: a cookie for the session of the browser, or for as long as the sidecar remembers.
    pub ttl: Option<Duration>,
    pub strict: bool,
    /// Percent of an even load, above 100.
    pub bounded_load: Option<u16>,
}

/// What names a client, and how that leads to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityKey {
    None,
    /// A cookie of this name, which says which backend it is.
    Cookie(String),
    /// What [`Affinity::header`] carries.
    Header {
        learned: bool,
    },
    SourceIp {
        learned: bool,
    },
}

impl Affinity {
    /// Whether a key leads to its backend by a hash.
    pub fn hashes(&self) -> bool {
        matches!(
            self.key,
            AffinityKey::Header { learned: false } | AffinityKey::SourceIp { learned: false }
        )
    }

    /// Whether a key leads to the backend that it was given first.
    pub fn learns(&self) -> bool {
        matches!(
            self.key,
            AffinityKey::Header { learned: true } | AffinityKey::SourceIp { learned: true }
        )
    }
}

/// [`AffinityKey`] as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AffinityBy {
    None,
    Cookie,
    Header,
    SourceIp,
}

/// `None`: no bound.
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_connections: Option<u32>,
    pub max_requests: Option<u32>,
    pub backend_max_connections: Option<u32>,
    pub backend_max_requests: Option<u32>,
    pub queue: u32,
    pub queue_timeout: Duration,
}

impl Limits {
    /// Whether there is any bound.
    pub fn any(&self) -> bool {
        let limits = [
            self.max_connections,
            self.max_requests,
            self.backend_max_connections,
            self.backend_max_requests,
        ];
        limits.iter().any(Option::is_some)
    }
}
