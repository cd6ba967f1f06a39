//! Consul as the source of endpoints and of orders for the fleet, real and broken.

mod changes;
mod faults;
mod fleet;
mod leader;
mod tls;
mod watchers;
