//! Clients that stay at their backends: by cookies, by keys that are hashed, by keys that are
//! learned.

mod attempts;
mod check;
mod cookies;
mod forged;
mod keys;
mod learned;
mod pinned;
mod restarts;
mod strict;
mod world;
