//! Consul as the source of endpoints, real and broken.

mod changes;
