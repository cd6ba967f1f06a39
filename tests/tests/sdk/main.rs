//! The Rust SDK with the real sidecar: what it asks for takes effect, what it gives comes to an end, and
//! it outlives restarts. What it does with a sidecar that misbehaves is tested in sdk/rust/tests.

mod access;
mod calls;
mod direct;
mod example;
mod lease;
mod pins;
mod refused;
mod watch;
mod world;
