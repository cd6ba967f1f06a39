//! The retry budget: retries are a share of the requests, so that they cannot multiply the load
//! of backends that fail because of it.
//!
//! Over the last ten seconds there are no more retries than a share of the requests of the same
//! time, and a few per second beside that, for clusters with little traffic. The window, rather
//! than a bucket that fills, lets all that waits for one dead backend move at once. Requests are
//! not counted for this: the cluster's sweep derives them from what backends have answered, and
//! leaves here what is allowed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Retry;

/// What is looked back on, in steps.
const WINDOW: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_secs(1);

/// What workers see.
#[derive(Debug)]
pub struct Budget {
    left: AtomicI64,
    used: AtomicU32,
}

impl Budget {
    pub(super) fn new(rules: &Retry) -> Self {
        Self { left: AtomicI64::new(floor(rules)), used: AtomicU32::new(0) }
    }

    /// Takes one retry; false when there is none left.
    pub fn take(&self) -> bool {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left > 0).then(|| left - 1)
        });
        if taken.is_ok() {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

/// What is allowed when there are no requests to speak of.
fn floor(rules: &Retry) -> i64 {
    i64::from(rules.min_per_second) * WINDOW.as_secs() as i64
}

/// What the cluster's task keeps.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Totals at the ends of the last steps, the oldest first.
    steps: VecDeque<Totals>,
    outcomes: u64,
    used: u64,
}

/// How many attempts and retries there were, up to then.
#[derive(Debug, Clone, Copy)]
struct Totals {
    at: Instant,
    outcomes: u64,
    used: u64,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        let none = Totals { at: now, outcomes: 0, used: 0 };
        Self { steps: VecDeque::from([none]), outcomes: 0, used: 0 }
    }

    /// Leaves in the budget what is allowed now; `outcomes` is how many attempts there were since
    /// the last time.
    pub(super) fn refill(&mut self, budget: &Budget, rules: &Retry, outcomes: u64, now: Instant) {
        let used = budget.used.load(Ordering::Relaxed);
        self.used += u64::from(used.wrapping_sub(self.used as u32));
        self.outcomes += outcomes;
        let current = Totals { at: now, outcomes: self.outcomes, used: self.used };
        let ends = |last: &Totals| now.duration_since(last.at) >= STEP;
        if self.steps.back().is_none_or(ends) {
            self.steps.push_back(current);
        }
        // A step counts as long as a part of it lies within the window.
        let over = |step: &mut Totals| now.duration_since(step.at) >= WINDOW + STEP;
        while self.steps.pop_front_if(over).is_some() {}
        let before = self.steps.front().copied().unwrap_or(current);
        let retries = current.used - before.used;
        let requests = (current.outcomes - before.outcomes).saturating_sub(retries);
        let allowed = requests * u64::from(rules.budget) / 100;
        let left = i64::try_from(allowed).unwrap_or(i64::MAX / 2) + floor(rules)
            - i64::try_from(retries).unwrap_or(i64::MAX / 2);
        budget.left.store(left.max(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(budget: u8, min_per_second: u32) -> Retry {
        Retry {
            attempts: 2,
            budget,
            min_per_second,
            per_try_timeout: None,
            hedge_after: None,
            on_status: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_share_of_the_requests_of_the_last_ten_seconds() {
        let (rules, start) = (rules(20, 0), Instant::now());
        let (budget, mut ledger) = (Budget::new(&rules), Ledger::new(start));
        let (mut requests, mut retries) = (0, 0);
        // A storm of 300 requests a second that all want a retry.
        for tick in 1..=600u64 {
            let taken = (0..30).filter(|_| budget.take()).count() as u64;
            requests += 30;
            retries += taken;
            let now = start + Duration::from_millis(100) * tick as u32;
            ledger.refill(&budget, &rules, 30 + taken, now);
        }
        assert!(retries * 100 <= requests * 22, "{retries} of {requests}");
        assert!(retries * 100 >= requests * 18, "{retries} of {requests}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_cluster_has_some_all_the_same() {
        let (rules, start) = (rules(20, 3), Instant::now());
        let (budget, mut ledger) = (Budget::new(&rules), Ledger::new(start));
        assert_eq!((0..100).filter(|_| budget.take()).count(), 30);
        ledger.refill(&budget, &rules, 0, start + Duration::from_secs(5));
        assert!(!budget.take());
        for second in 6..=20 {
            ledger.refill(&budget, &rules, 0, start + Duration::from_secs(second));
        }
        assert_eq!((0..100).filter(|_| budget.take()).count(), 30);
    }

    /// However requests for retries lie to the steps in which they are counted.
    #[tokio::test(start_paused = true)]
    async fn no_ten_seconds_have_more_than_the_floor() {
        let (rules, start) = (rules(20, 3), Instant::now());
        for phase in 0..10 {
            let (budget, mut ledger) = (Budget::new(&rules), Ledger::new(start));
            let mut taken: Vec<usize> = Vec::new();
            for tick in 1..=400u32 {
                // All that there is, once a second.
                let wants = tick % 10 == phase;
                taken.push((0..100).filter(|_| wants && budget.take()).count());
                ledger.refill(&budget, &rules, 0, start + Duration::from_millis(100) * tick);
            }
            let most = taken.windows(100).map(|ten| ten.iter().sum::<usize>()).max();
            assert_eq!(most, Some(30), "{taken:?}");
        }
    }
}
