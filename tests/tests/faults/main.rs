//! Backends that fail, each in a way of its own: what the app notices of it, and for how long.
//!
//! With `OUTRIGGER_LONG=1` the tests whose worth grows with their length run in full.

mod blackhole;
mod broken_off;
mod idle_closed;
mod killed;
mod stopped;
mod vanished;
