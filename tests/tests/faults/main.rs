//! Backends that fail, each in a way of its own: what the app notices of it, and for how long.

mod vanished;
