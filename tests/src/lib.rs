//! The world that the tests run in: the real binary, real servers around it, and traffic.
//!
//! Every process and socket gets a free port, every wait is for an event with a bound on it, and
//! everything that was started ends with the test. A part that is not installed fails the test
//! that needs it, by the name of its package.

pub mod authority;
pub mod backend;
pub mod bind;
pub mod client;
pub mod consul;
pub mod control;
pub mod fake_consul;
pub mod haproxy;
pub mod knot;
pub mod load;
pub mod moody;
pub mod nginx;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod redis;
pub mod rolling;
pub mod sidecar;
pub mod vanishing;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// The binary under test: `OUTRIGGER_BIN`, else the one that was built beside this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OUTRIGGER_BIN") {
        return path.into();
    }
    built("outrigger", "sidecar/src")
}

/// An example app in Rust.
pub fn example(name: &str) -> PathBuf {
    built(name, "examples/rust/src")
}

/// A binary that was built beside this test, and since its sources were last changed.
fn built(name: &str, sources: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let binary = profile.join(name);
    let built = std::fs::metadata(&binary).and_then(|file| file.modified());
    let built = built.unwrap_or_else(|e| panic!("{}: {e}; run ./tests/run", binary.display()));
    let newest = newest_source(&root().join(sources));
    assert!(newest <= built, "{} is older than its sources; run ./tests/run", binary.display());
    binary
}

fn newest_source(dir: &Path) -> std::time::SystemTime {
    let entries = std::fs::read_dir(dir).expect("sources can be read").map(Result::unwrap);
    let modified = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => newest_source(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    };
    entries.map(modified).max().unwrap_or(std::time::UNIX_EPOCH)
}

/// The path of a tool, or a failure that names the package that has it.
pub fn tool(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: install the Debian package `{package}`"))
}

/// Whether the tests that can go on for longer do so: `OUTRIGGER_LONG=1`.
pub fn long() -> bool {
    std::env::var_os("OUTRIGGER_LONG").is_some_and(|value| value == "1")
}

/// Waits until `probe` gives a value, and fails after `patience`.
pub async fn eventually<T, F>(what: &str, patience: Duration, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
