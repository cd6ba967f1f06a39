//! How a backend is left: by order, by removal, by failing its probes; what may still reach it,
//! and when what is left is closed.

mod api;
mod by_order;
mod command;
mod failover;
mod weights;
mod world;
