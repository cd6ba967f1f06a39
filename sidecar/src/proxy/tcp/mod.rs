//! TCP in front of a cluster: bytes both ways, whatever they mean. A connection's way through the
//! files:
//!
//! 1. [`serve`](mod@serve) finds its cluster by the [`route`]s of the listener, which may want to know
//!    what its TLS handshake says, its [`hello`](crate::net::tls::hello);
//! 2. [`connect`](mod@connect) picks a backend and connects, to another where that fails;
//! 3. [`relay`](mod@relay) carries both directions, each a [`way`], to the end.

mod connect;
mod relay;
mod route;
mod serve;
mod site;
mod way;

pub(super) use route::Routes;
pub(super) use serve::serve;
pub(super) use site::{Destination, Site};
pub(super) use way::Tools;
