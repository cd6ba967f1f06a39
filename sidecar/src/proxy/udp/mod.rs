//! UDP in front of a cluster: each client has a session, and each session one backend. A datagram's way
//! through the files:
//!
//! 1. [`serve`](mod@serve) reads it, from the clients or from a backend, and looks at the clock;
//! 2. [`sessions`] finds the session that it belongs to, or opens one, and keeps their number bounded;
//! 3. [`session`] sends it on, to another backend where the first refuses.
//!
//! A datagram is passed on as it came or not at all: what finds a socket full is dropped and counted,
//! since to wait for one client would be to have all others wait.

mod serve;
mod session;
mod sessions;
mod site;

pub(super) use serve::serve;
pub(super) use site::Site;
