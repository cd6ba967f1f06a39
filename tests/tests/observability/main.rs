//! What a running sidecar says of itself.

mod access;
mod events;
mod metrics;
