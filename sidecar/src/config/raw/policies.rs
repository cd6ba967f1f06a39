//! What happens to the work of a cluster when things go wrong, as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{DurationText, PercentText, TimeoutText};
use crate::config::{AffinityBy, OnLeaving};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Backends that one request may be tried on, the first included, 1..=10.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u8,
    /// Retries and hedges allowed, as a share of the requests of the last 10 s. An attempt that
    /// cannot have reached a backend does not count.
    pub budget: PercentText,
    /// Retries allowed each second beside the budget.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_per_second: u32,
    /// Longest silence of one attempt; then another backend is asked, where that is safe and
    /// `timeouts.response` leaves time for it.
    pub per_try_timeout: TimeoutText,
    /// After this long without an answer a second backend is asked too, and the first answer
    /// counts; only for requests without a body that may be repeated.
    pub hedge_after: TimeoutText,
    /// Statuses, `"503"` or `"502-504"`, on which a request that may be repeated is tried again.
    pub on_status: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outlier {
    /// Whether real traffic is judged at all.
    pub enabled: bool,
    /// Failures in a row (resets, timeouts, 5xx) that eject a backend.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub consecutive: u32,
    /// Refused or failed connects in a row that eject a backend.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub consecutive_connect: u32,
    /// The first ejection; the second in a row takes twice as long, the third three times.
    pub base_ejection: DurationText,
    /// The longest ejection.
    pub max_ejection: DurationText,
    /// Share of a cluster's backends that may be ejected at a time; one always may, the last never.
    pub max_ejected: PercentText,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long what is under way may take; then it is closed by force.
    pub timeout: DurationText,
    /// Whether work whose affinity names the backend may still arrive until then.
    pub keep_affinity: bool,
    /// What happens to the work of a backend that failed its probes: it may stay (`keep`), has
    /// until the timeout (`drain`), or is closed at once (`terminate`).
    pub on_unhealthy: OnLeaving,
    /// The same for a backend that discovery dropped.
    pub on_removal: OnLeaving,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Affinity {
    /// What names a client.
    pub by: AffinityBy,
    /// `cookie`: the cookie's name; by default `LB_SESSION_` and the cluster's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// `cookie` and `learned`: how long a backend is remembered, renewed past half. `"0s"`: until
    /// the browser ends, or for as long as the sidecar remembers.
    pub ttl: DurationText,
    /// The field whose value is the key: of `header`, and of what an app has pinned; by default
    /// `x-outrigger-affinity`, which no backend gets to see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// `header` and `source_ip`: remember which backend a key went to instead of hashing it.
    pub learned: bool,
    /// Whether a client whose backend may not be used gets a 503 instead of another backend.
    pub strict: bool,
    /// Hashed keys: a backend with more than this share of an even load is passed over, `"125%"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounded_load: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections to all backends of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Requests in flight at all backends of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
    /// Connections to one backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backend_max_connections: Option<u32>,
    /// Requests in flight at one backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backend_max_requests: Option<u32>,
    /// Requests that may wait for one of these; what comes then is refused with 503.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub queue: u32,
    /// How long a request may wait.
    pub queue_timeout: DurationText,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowStart {
    /// How long a backend that joined late or has recovered takes to its full share, from a
    /// tenth of it; without this key it has its full share at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<DurationText>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget: PercentText("20%".into()),
            min_per_second: 3,
            per_try_timeout: TimeoutText("disabled".into()),
            hedge_after: TimeoutText("disabled".into()),
            on_status: Vec::new(),
        }
    }
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive: 5,
            consecutive_connect: 3,
            base_ejection: DurationText("10s".into()),
            max_ejection: DurationText("5m".into()),
            max_ejected: PercentText("50%".into()),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            timeout: DurationText("30s".into()),
            keep_affinity: true,
            on_unhealthy: OnLeaving::Keep,
            on_removal: OnLeaving::Drain,
        }
    }
}

impl Default for Affinity {
    fn default() -> Self {
        Self {
            by: AffinityBy::None,
            cookie: None,
            ttl: DurationText("1h".into()),
            header: None,
            learned: false,
            strict: false,
            bounded_load: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_requests: None,
            backend_max_connections: None,
            backend_max_requests: None,
            queue: 1024,
            queue_timeout: DurationText("1s".into()),
        }
    }
}
