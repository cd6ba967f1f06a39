//! When Consul is asked again, and with which index.

use std::time::Duration;

use tokio::time::Instant;

use super::client::ConsulError;
use crate::net::backoff::Backoff;

/// Questions that may follow each other without a pause, and how soon there may be one more.
const BURST: f64 = 2.0;
const REFILL: Duration = Duration::from_secs(1);
/// The first wait after a failure, and the longest: of an agent that was there a moment ago, or
/// that costs next to nothing to ask, and of others.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_SHORT: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// An agent that failed less than this ago may just be starting again.
const MOMENT: Duration = Duration::from_secs(60);

/// The pace of one watch.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: f64,
    counted: Instant,
    failing_since: Option<Instant>,
    short: Backoff,
    long: Backoff,
    rng: fastrand::Rng,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            counted: now,
            failing_since: None,
            short: Backoff::new(RETRY_FIRST, RETRY_SHORT),
            long: Backoff::new(RETRY_SHORT, RETRY_LONGEST),
            rng: fastrand::Rng::new(),
        }
    }

    /// How long to wait before a question may follow one that was answered: changes that come
    /// slowly are seen at once, and those that come all the time once a second.
    pub(super) fn answered(&mut self, now: Instant) -> Duration {
        self.failing_since = None;
        self.short.succeeded();
        self.long.succeeded();
        self.spend(now)
    }

    /// Takes one question out of the bucket: how long the next one has to wait for its own.
    fn spend(&mut self, now: Instant) -> Duration {
        let passed = now.duration_since(self.counted).div_duration_f64(REFILL);
        self.tokens = (self.tokens + passed).min(BURST) - 1.0;
        self.counted = now;
        if self.tokens >= 0.0 { Duration::ZERO } else { REFILL.mul_f64(-self.tokens) }
    }

    /// How long to wait after a failure.
    pub(super) fn failed(&mut self, error: &ConsulError, now: Instant) -> Duration {
        let since = *self.failing_since.get_or_insert(now);
        let asked = match error {
            ConsulError::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let costs_nothing = matches!(error, ConsulError::Unreachable { .. });
        let recent = now.duration_since(since) < MOMENT;
        let backoff = if recent || costs_nothing { &mut self.short } else { &mut self.long };
        let wait = backoff.failed(&mut self.rng).max(asked.min(RETRY_LONGEST));
        // Servers without a leader are asked no more often than those with one.
        if costs_nothing { wait } else { wait.max(self.spend(now)) }
    }
}

/// The index to wait from next: an index that goes back is one of another server, and 0 would not
/// wait at all.
pub(super) fn next_index(sent: u64, header: Option<&str>) -> u64 {
    let said = header.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0).max(1);
    if said < sent { 0 } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn refused(retry_after: Option<Duration>) -> ConsulError {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        ConsulError::Refused { status, message: String::new(), retry_after }
    }

    #[test]
    fn indexes_go_forward_or_begin_anew() {
        for (sent, header, expected) in [
            (0, Some("12"), 12),
            (5_000, Some("12"), 0),
            (12, Some("12"), 12),
            (0, Some("0"), 1),
            (7, Some("0"), 0),
            (1, None, 1),
            (0, Some("twelve"), 1),
            (0, Some("18446744073709551615"), u64::MAX),
        ] {
            assert_eq!(next_index(sent, header), expected, "{sent} {header:?}");
        }
    }

    #[test]
    fn a_change_is_seen_at_once_and_churn_once_a_second() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        let mut asked = 0;
        while now < start + Duration::from_secs(60) {
            now += pace.answered(now);
            asked += 1;
        }
        assert!((60..=62).contains(&asked), "{asked}");
        now += Duration::from_secs(10);
        assert_eq!(pace.answered(now), Duration::ZERO);
        assert_eq!(pace.answered(now), Duration::ZERO);
        assert!(pace.answered(now) > Duration::ZERO);
    }

    #[test]
    fn failures_are_asked_again_soon_at_first_and_rarely_later() {
        let start = Instant::now();
        let (mut pace, mut now) = (Pace::new(start), start);
        let mut asked = 0;
        while now < start + MOMENT {
            let wait = pace.failed(&refused(None), now);
            assert!(wait <= RETRY_SHORT);
            now += wait;
            asked += 1;
        }
        // One a second, and the burst.
        assert!((60..=62).contains(&asked), "{asked}");
        for _ in 0..20 {
            now += pace.failed(&refused(None), now);
        }
        assert!(pace.failed(&refused(None), now) >= RETRY_LONGEST / 2);
        let unreachable = ConsulError::Unreachable { address: String::new(), error: String::new() };
        assert!(pace.failed(&unreachable, now) <= RETRY_SHORT);
        let patience = Duration::from_secs(7);
        pace.answered(now);
        assert!(pace.failed(&refused(Some(patience)), now) >= patience);
    }
}
