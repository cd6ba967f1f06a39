//! HTTP/1.1 in front of a cluster. A request's way through the files:
//!
//! 1. [`serve`](mod@serve) reads it from the app's connection ([`downstream`]), and
//!    [`exchange`] takes it from there to the last byte of its answer:
//! 2. [`check`] refuses what HTTP does not allow and hyper lets pass;
//! 3. [`route`] finds its cluster, by the path that [`path`] made canonical;
//! 4. [`headers`] makes its head fit for the next hop;
//! 5. [`forward`] picks a backend, sends it, and tries another where that is safe;
//! 6. [`body`] relays bodies, both ways;
//! 7. [`reply`] answers in the backend's stead when there is no answer of one.
//!
//! What decides looks at methods, paths and fields, not at hyper's connections: hyper is the
//! engine under [`serve`](mod@serve), [`forward`] and [`body`] only.

mod body;
mod check;
mod downstream;
mod exchange;
mod forward;
mod headers;
mod path;
mod reply;
mod route;
mod serve;

pub(super) use exchange::{Destination, LocalCluster, Site};
pub(super) use route::Routes;
pub(super) use serve::serve;
