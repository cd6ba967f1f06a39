//! Sockets and time, with no knowledge of clusters: addresses, listening, connecting, backing off.

mod address;
pub mod backoff;
pub mod buffer;
pub mod crowd;
pub mod dial;
pub mod host;
pub mod listen;
pub mod proxy_protocol;
mod readable;
pub mod splice;
pub mod tls;
pub mod udp;
pub mod wire;

pub use address::Address;
