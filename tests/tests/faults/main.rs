//! Backends that fail, each in a way of its own: what the app notices of it, and for how long.
//!
//! With `OUTRIGGER_LONG=1` the tests whose worth grows with their length run in full.

mod all_down;
mod bad_http;
mod blackhole;
mod broken_off;
mod errors;
mod flapping;
mod idle_closed;
mod killed;
mod late;
mod limits;
mod rolling;
mod slow;
mod slow_start;
mod stopped;
mod storm;
mod vanished;
