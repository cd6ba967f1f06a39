//! A backend that joins late, or is back, gets its share of the traffic step by step: caches are
//! cold, and code is not compiled yet.
//!
//! As in Envoy with aggression 1: the weight grows in proportion to the time since the start, from
//! a tenth. A sidecar that has just started does not slow-start everyone that it meets.

use std::time::Duration;

use tokio::time::Instant;

/// The share that a backend begins with, in percent.
const FLOOR: u128 = 10;

/// The weight of a backend that may be used since `since`; a weight above 0 stays above 0.
pub(super) fn weight(configured: u32, since: Instant, window: Duration, now: Instant) -> u32 {
    let elapsed = now.duration_since(since).as_millis();
    let window = window.as_millis().max(1);
    let percent = (elapsed * 100 / window).clamp(FLOOR, 100);
    let weight = (u128::from(configured) * percent).div_ceil(100);
    u32::try_from(weight).unwrap_or(configured)
}

/// How often weights that grow are published anew.
pub(super) fn step(window: Duration) -> Duration {
    (window / 20).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn weights_grow_from_a_tenth() {
        let (start, window) = (Instant::now(), Duration::from_secs(20));
        let at = |second| weight(256, start, window, start + Duration::from_secs(second));
        assert_eq!([0, 1, 2, 10, 20, 60].map(at), [26, 26, 26, 128, 256, 256]);
        assert_eq!(weight(0, start, window, start), 0);
        assert_eq!(weight(1, start, window, start), 1);
    }
}
