//! TCP listeners: which backend a connection goes to, what becomes of its bytes, and how it ends.

// The one that takes a minute is first, so that the others go on beside it.
mod absent;
mod accounts;
mod bulk;
mod connecting;
mod ends;
mod leaving;
mod limits;
mod pieces;
mod postgres;
mod redis;
mod shares;
mod shutdown;
mod timeouts;
mod world;
