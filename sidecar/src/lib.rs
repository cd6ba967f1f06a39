//! Outrigger: a client-side load-balancing sidecar.
//!
//! ARCHITECTURE.md beside this crate tells the lives of a connection, a request and a discovery
//! update. The modules, in reading order:

// Whoever reads these documents reads the code, private items included.
#![allow(rustdoc::private_intra_doc_links)]

pub mod admin;
pub mod app;
pub mod balancer;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod control;
pub mod discovery;
pub mod disk;
pub mod health;
pub mod net;
pub mod proxy;
pub mod readiness;
pub mod shutdown;
pub mod state;
pub mod telemetry;
pub mod tls;
pub mod upstream;
