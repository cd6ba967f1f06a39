//! The closed list of metrics and of their labels' values.

/// Buckets of `outrigger_request_duration_seconds`.
pub(super) const DURATIONS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Buckets of `outrigger_connection_duration_seconds`.
pub(super) const LIFETIMES: [f64; 9] = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All series of our own; `process_*` come from their crate.
pub const ALL: [(&str, Kind, &str); 30] = [
    (
        "outrigger_requests_total",
        Kind::Counter,
        "Requests by their final answer; 499 is an app that left before it",
    ),
    ("outrigger_errors_total", Kind::Counter, "Answers of Outrigger's own, by reason"),
    ("outrigger_outcomes_total", Kind::Counter, "Attempts at a backend, by what came of them"),
    (
        "outrigger_request_duration_seconds",
        Kind::Histogram,
        "From a request's head to the last byte of its answer",
    ),
    ("outrigger_connections_total", Kind::Counter, "Connections accepted, and UDP sessions begun"),
    ("outrigger_connections_active", Kind::Gauge, "Connections open"),
    (
        "outrigger_connection_ends_total",
        Kind::Counter,
        "TCP connections and UDP sessions that have ended, by why",
    ),
    (
        "outrigger_connection_duration_seconds",
        Kind::Histogram,
        "How long TCP connections and UDP sessions lasted",
    ),
    ("outrigger_udp_sessions", Kind::Gauge, "UDP sessions open"),
    ("outrigger_udp_datagrams_total", Kind::Counter, "Datagrams passed on, by direction"),
    ("outrigger_udp_datagrams_dropped_total", Kind::Counter, "Datagrams not passed on, by why"),
    (
        "outrigger_access_log_dropped_total",
        Kind::Counter,
        "Lines of the access log that were left out because it could not be written fast enough",
    ),
    ("outrigger_upstream_connections_total", Kind::Counter, "Connections opened to a backend"),
    ("outrigger_upstream_connections_active", Kind::Gauge, "Connections open to a backend"),
    (
        "outrigger_bytes_total",
        Kind::Counter,
        "Bytes of bodies, TCP connections and datagrams, by direction",
    ),
    ("outrigger_backend_state", Kind::Gauge, "1 for the state that a backend is in"),
    ("outrigger_backend_weight", Kind::Gauge, "Weight that picks use"),
    ("outrigger_in_flight", Kind::Gauge, "Attempts in progress at a backend"),
    ("outrigger_eligible_backends", Kind::Gauge, "Backends that may receive new picks now"),
    ("outrigger_probes_total", Kind::Counter, "Active health checks, by result"),
    (
        "outrigger_panic",
        Kind::Gauge,
        "1 while backends in doubt are used because too few others are left",
    ),
    ("outrigger_retries_total", Kind::Counter, "Further attempts, by what came of the request"),
    ("outrigger_ejections_total", Kind::Counter, "Backends taken out for what traffic showed"),
    ("outrigger_drains_total", Kind::Counter, "Drains that have ended, by how"),
    (
        "outrigger_affinity_total",
        Kind::Counter,
        "Requests to clusters with affinity, by what became of it",
    ),
    (
        "outrigger_discovery_updates_total",
        Kind::Counter,
        "Answers of a source of discovery, by result",
    ),
    (
        "outrigger_discovery_last_success_timestamp_seconds",
        Kind::Gauge,
        "When discovery last gave an answer",
    ),
    (
        "outrigger_discovery_stale_seconds",
        Kind::Gauge,
        "For how long nobody has confirmed the endpoints; 0 while somebody does",
    ),
    (
        "outrigger_fleet_orders_ignored_total",
        Kind::Counter,
        "Keys in Consul that should hold an order for the fleet and do not",
    ),
    (
        "outrigger_removals_held_total",
        Kind::Counter,
        "Backends that discovery dropped with too many others to be believed at once",
    ),
];
pub(super) const BUILD_INFO: (&str, &str) = ("outrigger_build_info", "1, with the version");

/// Why Outrigger answered itself: values of the label `reason`, and of `x-outrigger-error`.
pub const REASONS: [&str; 10] = [
    "no_backend",
    "no_eligible_backend",
    "connect_failed",
    "shutting_down",
    "overflow",
    "reset",
    "upstream_protocol",
    "timeout",
    "no_route",
    "bad_request",
];

/// What came of an attempt: values of the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    ConnectFailed,
    Reset,
    Timeout,
    Http5xx,
    GrpcError,
    Cancelled,
    /// A kept connection turned out to be closed: counted as `reset`, but it says nothing about
    /// the backend.
    Stale,
    /// Nothing was attempted: not counted.
    Unused,
}

impl Outcome {
    /// Whether the backend is at fault.
    pub fn is_failure(self) -> bool {
        match self {
            Self::ConnectFailed | Self::Reset | Self::Timeout | Self::Http5xx | Self::GrpcError => {
                true
            }
            Self::Success | Self::Cancelled | Self::Stale | Self::Unused => false,
        }
    }
}

pub(super) const OUTCOMES: [&str; 7] =
    ["success", "connect_failed", "reset", "timeout", "http_5xx", "grpc_error", "cancelled"];

/// Why a TCP connection or a UDP session has ended: values of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides were done.
    Finished,
    ByApp,
    ByBackend,
    Idle,
    MaxAge,
    /// By force, at the end of a drain.
    Drained,
    /// As many replies as a session may have.
    Replies,
    /// Another session needed its room.
    Evicted,
    /// The sidecar stopped.
    ShuttingDown,
    NoBackend,
    NoEligibleBackend,
    ConnectFailed,
    Overflow,
    NoRoute,
    BadRequest,
}

pub(super) const ENDS: [&str; 15] = [
    "finished",
    "app_reset",
    "backend_reset",
    "idle",
    "max_age",
    "drained",
    "replies",
    "evicted",
    "shutting_down",
    "no_backend",
    "no_eligible_backend",
    "connect_failed",
    "overflow",
    "no_route",
    "bad_request",
];

impl End {
    pub fn name(self) -> &'static str {
        ENDS[self as usize]
    }

    /// Whether there was no way to a backend.
    pub fn is_error(self) -> bool {
        self as usize >= Self::NoBackend as usize
    }
}

/// Why a datagram was not passed on: values of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The socket had no room for it.
    SocketFull,
    /// There was nobody to send it to, or no socket to send it from.
    NoBackend,
    /// Two backends in a row have refused what was sent before it.
    Refused,
    /// The kernel would not send it: it is larger than the way allows, for one.
    Error,
}

pub(super) const DROPS: [&str; 4] = ["socket_full", "no_backend", "refused", "error"];

/// Why a backend was ejected: values of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectionReason {
    /// Too many failures in a row.
    Consecutive,
    SuccessRate,
    /// The one request that was to show whether it has recovered failed.
    Trial,
}

pub(super) const EJECTIONS: [&str; 3] = ["consecutive", "success_rate", "trial"];

impl EjectionReason {
    pub fn describe(self) -> &'static str {
        match self {
            Self::Consecutive => "too many failures in a row",
            Self::SuccessRate => "it fails far more often than others",
            Self::Trial => "it has not recovered",
        }
    }

    pub fn name(self) -> &'static str {
        EJECTIONS[self as usize]
    }
}

/// How a drain ended: values of the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainResult {
    /// All work ended by itself.
    Completed,
    /// Some work was ended by force.
    Forced,
    /// It was resumed, or came back, before that.
    Cancelled,
}

pub(super) const DRAINS: [&str; 3] = ["completed", "forced", "cancelled"];

/// What became of a request's affinity: values of the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffinityResult {
    /// It went where it always goes.
    Hit,
    /// It had none yet.
    New,
    /// Its backend may not be used.
    Moved,
    Expired,
    Forged,
}

pub(super) const AFFINITIES: [&str; 5] = ["hit", "new", "moved", "expired", "forged"];

/// States of a backend: values of the label `state`.
pub const STATES: [&str; 5] = ["draining", "unhealthy", "ejected", "pending", "ready"];

/// What came of asking a source: values of the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    Changed,
    Unchanged,
    Failure,
}

pub(super) const UPDATES: [&str; 3] = ["changed", "unchanged", "failure"];
