//! The way of the app's traffic: accept, read a request, pick a backend, relay.
//!
//! Each worker is a thread with a runtime, timers and pools of its own, and nothing on the way
//! of a request leaves it.

mod cluster;
pub mod door;
pub mod http;
pub mod listener;
mod service;
mod tcp;
mod timer;
mod udp;
pub mod worker;
