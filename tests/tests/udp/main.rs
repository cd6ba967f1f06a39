//! UDP through the sidecar: who gets what, what becomes of a session, and that nothing is lost on the
//! way but what has to be.

mod dns;
mod drain;
mod flood;
mod memory;
mod payload;
mod refused;
mod sessions;
mod shares;
mod world;
