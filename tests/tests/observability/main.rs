//! What a running sidecar says of itself.

mod events;
mod metrics;
