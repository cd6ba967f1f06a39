//! Outcomes of one backend that are not told yet.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::report::Outcome;

const OUTCOMES: [Outcome; 7] = [
    Outcome::Success,
    Outcome::ConnectFailed,
    Outcome::Reset,
    Outcome::Timeout,
    Outcome::Http5xx,
    Outcome::GrpcError,
    Outcome::Cancelled,
];

/// A few counters, so that it costs a request three additions and no memory to be counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [Count; OUTCOMES.len()],
}

#[derive(Debug, Default)]
struct Count {
    ended: AtomicU32,
    /// Those of them whose latency is known, and the sum of these.
    timed: AtomicU32,
    microseconds: AtomicU64,
}

/// So many that have ended alike, and the mean of their latencies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) outcome: Outcome,
    pub(super) count: u32,
    pub(super) latency: Option<Duration>,
}

impl Tally {
    pub(super) fn add(&self, outcome: Outcome, latency: Option<Duration>) {
        let place = OUTCOMES.iter().position(|known| *known == outcome);
        let Some(count) = place.and_then(|place| self.counts.get(place)) else { return };
        if let Some(latency) = latency {
            let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX >> 32);
            count.microseconds.fetch_add(microseconds, Ordering::Relaxed);
            count.timed.fetch_add(1, Ordering::Relaxed);
        }
        count.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// What has come since it was last taken. What comes meanwhile is in this or in the next.
    pub(super) fn take(&self) -> impl Iterator<Item = Counted> {
        OUTCOMES.iter().zip(&self.counts).filter_map(|(outcome, count)| {
            let ended = count.ended.swap(0, Ordering::Relaxed);
            if ended == 0 {
                return None;
            }
            let timed = u64::from(count.timed.swap(0, Ordering::Relaxed));
            let microseconds = count.microseconds.swap(0, Ordering::Relaxed);
            let latency = microseconds.checked_div(timed).map(Duration::from_micros);
            Some(Counted { outcome: *outcome, count: ended, latency })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_alike_is_told_at_once_with_its_mean_latency() {
        let tally = Tally::default();
        for latency in [10, 20, 60] {
            tally.add(Outcome::Success, Some(Duration::from_micros(latency)));
        }
        tally.add(Outcome::Reset, None);
        let latency = Some(Duration::from_micros(30));
        let expected = [
            Counted { outcome: Outcome::Success, count: 3, latency },
            Counted { outcome: Outcome::Reset, count: 1, latency: None },
        ];
        assert_eq!(tally.take().collect::<Vec<_>>(), expected);
        assert_eq!(tally.take().count(), 0);
    }
}
