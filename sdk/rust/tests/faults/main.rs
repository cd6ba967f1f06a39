//! The SDK beside a sidecar that is absent, slow, dying or wrong: what a real one will not do when it is
//! asked to. What it does with a real one is tested in tests/tests/sdk.

// It is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod absent;
mod balancer;
mod calls;
mod errors;
mod fake;
mod lease;
mod watch;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits until `probe` gives a value, and fails after 5 s.
async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
