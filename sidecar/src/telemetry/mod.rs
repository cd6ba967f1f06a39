//! What the sidecar tells about itself: metrics and log lines.

pub mod access;
pub mod log;
pub mod metrics;
