//! HTTP/1.1 as it passes through: framing, heads, bodies, retries, and time.

mod bodies;
mod heads;
mod refused;
mod retries;
mod routes;
mod timeouts;
