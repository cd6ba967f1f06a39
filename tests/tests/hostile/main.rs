//! Peers that are slow, greedy or rude, on either side, and many at a time.
//!
//! With `OUTRIGGER_LONG=1` the tests whose worth grows with their length run in full.

mod attacks;
mod idle;
mod leaks;
mod oversize;
mod pressure;
mod rude;
mod storm;
mod traffic;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Allows this process, and the sidecars that it starts, as many open files as there may be.
fn allow_open_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
}
