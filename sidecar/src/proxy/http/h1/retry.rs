//! When a request is sent again, and to whom.
//!
//! A request is tried again when it cannot have been seen: no connection came about, or not a byte
//! of it was written; or when seeing it twice is harmless and no byte of an answer has come: its
//! method is idempotent (RFC 9110, section 9.2.2) or it carries an `Idempotency-Key`, and its body,
//! if it has one, is still there to be sent again. What may have been seen draws on the cluster's
//! budget, so that retries cannot multiply the load of backends that fail because of it.

use std::time::Duration;

use tokio::time::Instant;

use super::downstream::Downstream;
use super::exchange::{Plan, Stopped};
use super::fields::Kind;
use super::framing::Framing;
use super::head::Request;
use crate::proxy::cluster::LocalCluster;

/// Back-off between attempts is drawn from zero to this, doubled each time up to the most.
const BACKOFF: Duration = Duration::from_millis(25);
const MOST_BACKOFF: Duration = Duration::from_millis(250);

/// An attempt that came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) stopped: Stopped,
    pub(super) again: Again,
}

/// Whether a request may be sent again after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// An old connection turned out to be closed, which says nothing about the backend.
    Stale,
    /// The backend has seen nothing of it.
    Unseen,
    /// It may have seen it, but that is harmless.
    Harmless,
    /// As that, and it costs nothing: it is paid for, or the attempt was an experiment of ours.
    Free,
}

impl Failure {
    pub(super) fn last(stopped: impl Into<Stopped>) -> Self {
        Self { stopped: stopped.into(), again: Again::No }
    }
}

/// The attempts of one request.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    cluster: &'a LocalCluster,
    started: Instant,
    /// Backends that had their chance.
    pub(super) tried: Vec<u64>,
    count: usize,
    retries: u64,
    last: Option<Stopped>,
    /// When it has waited for room for long enough.
    waits_until: Option<Instant>,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(cluster: &'a LocalCluster, started: Instant) -> Self {
        Self {
            cluster,
            started,
            tried: Vec::new(),
            count: 0,
            retries: 0,
            last: None,
            waits_until: None,
        }
    }

    /// What time it is for the next attempt: the first begins with the request.
    pub(super) fn now(&self) -> Instant {
        if self.is_retry() || self.waits_until.is_some() { Instant::now() } else { self.started }
    }

    /// Whether it has to wait behind others: it has not begun, and they were here before.
    pub(super) fn is_behind(&self) -> bool {
        self.cluster.is_awaited() && self.tried.is_empty() && !self.is_retry()
    }

    /// Until when it may wait for room, in all.
    pub(super) fn waits_until(&mut self) -> Instant {
        let limit = self.cluster.settings().limits.queue_timeout;
        *self.waits_until.get_or_insert_with(|| Instant::now() + limit)
    }

    /// Whether this is not the first connection that it is tried on.
    pub(super) fn is_retry(&self) -> bool {
        self.retries > 0
    }

    /// Whether another attempt may follow the next one.
    pub(super) fn may_follow(&self) -> bool {
        let attempts = self.cluster.settings().retry.attempts;
        self.with_next() < attempts && (!self.is_retry() || self.has_time(Duration::ZERO))
    }

    /// The failure of an earlier attempt, or else `error`.
    pub(super) fn last_or(&mut self, error: impl Into<Stopped>) -> Stopped {
        self.last.take().unwrap_or_else(|| error.into())
    }

    /// Whether an answer of this status is tried again.
    pub(super) fn is_tried_again(&self, status: u16) -> bool {
        let on_status = &self.cluster.settings().retry.on_status;
        on_status.iter().any(|range| range.contains(&status))
    }

    /// Takes in a failure at a backend: the request goes on, after a pause, or stops.
    pub(super) async fn failed(&mut self, backend: u64, failure: Failure) -> Result<(), Stopped> {
        if failure.again != Again::Stale {
            self.tried.push(backend);
            self.count += 1;
        }
        let pause = match failure.again {
            Again::Harmless => backoff(self.count),
            _ => Duration::ZERO,
        };
        let may_go_on = self.count < self.cluster.settings().retry.attempts && self.has_time(pause);
        let allowed = match failure.again {
            Again::No => false,
            Again::Stale => true,
            Again::Unseen | Again::Free => may_go_on,
            Again::Harmless => may_go_on && self.pay(),
        };
        if !allowed {
            return Err(failure.stopped);
        }
        self.retries += 1;
        self.last = Some(failure.stopped);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// How many there are with the next one.
    pub(super) fn with_next(&self) -> usize {
        self.count + 1
    }

    /// Another attempt begins beside the one that there is, or in place of it.
    pub(super) fn follows(&mut self) {
        self.count += 1;
        self.retries += 1;
    }

    /// Counts what the retries came to.
    pub(super) fn end(&self, answered: bool) {
        if self.retries > 0 {
            let metrics = self.cluster.metrics();
            let counter =
                if answered { &metrics.retries_succeeded } else { &metrics.retries_failed };
            counter.increment(self.retries);
        }
    }

    /// Whether the request's deadline leaves time for more than a pause.
    fn has_time(&self, pause: Duration) -> bool {
        let limit = self.cluster.settings().timeouts.response;
        limit.is_none_or(|limit| self.started.elapsed() + pause < limit)
    }

    /// How long the next attempt may wait: what earlier ones have left of the request's deadline.
    pub(super) fn patience(&self) -> Option<Duration> {
        let settings = self.cluster.settings();
        let left = settings.timeouts.response.map(|limit| match self.is_retry() {
            true => limit.saturating_sub(self.started.elapsed()),
            false => limit,
        });
        [left, settings.retry.per_try_timeout].into_iter().flatten().min()
    }

    /// Draws on the budget.
    pub(super) fn pay(&self) -> bool {
        let paid = self.cluster.cluster.budget.take();
        if !paid {
            self.cluster.metrics().retries_exhausted.increment(1);
        }
        paid
    }
}

/// Full jitter: whoever failed together does not come back together.
fn backoff(attempt: usize) -> Duration {
    let doubled = BACKOFF.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    doubled.min(MOST_BACKOFF).mul_f64(fastrand::f64())
}

/// Whether a request may be seen twice.
pub(super) fn is_repeatable(request: &Request<'_>) -> bool {
    matches!(request.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
        || request.fields.has(Kind::IdempotencyKey)
}

impl Plan<'_> {
    /// Whether it may go to one backend only.
    pub(super) fn is_bound(&self) -> bool {
        self.cluster().binds(self.affinity.key)
    }

    /// Whether nothing but its head would have to be sent again.
    pub(super) fn has_no_body(&self) -> bool {
        matches!(self.framing, Framing::Empty | Framing::Length(0))
    }

    /// Whether the request may be seen twice, and all of it is there to be sent again.
    pub(super) fn may_repeat(&self, app: &Downstream) -> bool {
        self.repeatable && (self.has_no_body() || app.wire.input.holds())
    }
}
