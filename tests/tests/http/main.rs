//! HTTP/1.1 as it passes through: framing, heads, bodies, retries, and time.

mod bodies;
mod early;
mod framing;
mod gone;
mod heads;
mod hedging;
mod interim;
mod moved;
mod pipelining;
mod refused;
mod retries;
mod routes;
mod timeouts;
mod tunnel;
mod unsent;
mod upgrade;
mod versions;
mod websocket;
