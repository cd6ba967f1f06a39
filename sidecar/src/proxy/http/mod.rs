//! HTTP in front of a cluster. A request's way through the files:
//!
//! 1. [`h1`] reads its head from the app's connection and holds it to the letter;
//! 2. [`site`] decides: [`route`] finds its cluster, by the path that [`path`] made canonical;
//! 3. [`h1`] picks a backend, sends it, tries another where that is safe, and relays the answer;
//! 4. [`error`] says what is answered in the backend's stead when there is no answer of one.
//!
//! What decides looks at methods, paths and fields; what moves bytes is the engine's. HTTP/2 will
//! be a second engine beside [`h1`], on the same decisions.

mod account;
mod affinity;
pub mod cookie;
pub(crate) mod error;
pub mod h1;
mod path;
mod route;
mod site;

pub(super) use h1::serve;
pub(super) use route::Routes;
pub(super) use site::{Date, Destination, Site};
