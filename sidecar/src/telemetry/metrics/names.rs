//! The closed list of metrics and of their labels' values.

/// Buckets of `outrigger_request_duration_seconds`.
pub(super) const DURATIONS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All series of our own; `process_*` come from their crate.
pub const ALL: [(&str, Kind, &str); 18] = [
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
    ("outrigger_connections_total", Kind::Counter, "Connections accepted"),
    ("outrigger_connections_active", Kind::Gauge, "Connections open"),
    ("outrigger_upstream_connections_total", Kind::Counter, "Connections opened to a backend"),
    ("outrigger_upstream_connections_active", Kind::Gauge, "Connections open to a backend"),
    ("outrigger_bytes_total", Kind::Counter, "Body bytes, by direction"),
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
];
pub(super) const BUILD_INFO: (&str, &str) = ("outrigger_build_info", "1, with the version");

/// Why Outrigger answered itself: values of the label `reason`, and of `x-outrigger-error`.
pub const REASONS: [&str; 9] = [
    "no_backend",
    "no_eligible_backend",
    "connect_failed",
    "shutting_down",
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
    Cancelled,
}

pub(super) const OUTCOMES: [&str; 6] =
    ["success", "connect_failed", "reset", "timeout", "http_5xx", "cancelled"];

/// States of a backend: values of the label `state`.
pub const STATES: [&str; 3] = ["unhealthy", "pending", "ready"];
