//! How a backend is left: what may still reach it, until when, and when it is done.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::OnLeaving;

/// A backend without work for this long is done: between two requests of one client may be that
/// much.
const QUIET: Duration = Duration::from_secs(1);

/// Why a backend drains. Causes add up, and each ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator's order to this sidecar.
    Order,
    /// An order to all sidecars.
    Fleet,
    /// The source says that somebody works on it.
    Maintenance,
    /// Discovery dropped it.
    Removal,
}

impl Cause {
    pub fn describe(self) -> &'static str {
        match self {
            Self::Order => "by order",
            Self::Fleet => "by order for the fleet",
            Self::Maintenance => "in maintenance",
            Self::Removal => "discovery dropped it",
        }
    }
}

/// When work is ended by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Never,
    /// From then on, spread over a second.
    At(Instant),
    Now,
}

/// The drain of a backend, as its snapshot shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// The first of its causes.
    pub cause: Cause,
    /// Whether an order is among them, one for the fleet, and whether discovery's removal.
    pub ordered: bool,
    pub fleet: bool,
    pub removed: bool,
    pub deadline: Instant,
    /// Whether work whose affinity names it may still arrive.
    pub keeps_affinity: bool,
    pub cut: Cut,
    /// Nothing of it is left, and nothing will come.
    pub done: bool,
}

#[derive(Debug)]
struct Drain {
    cause: Cause,
    deadline: Instant,
    how: OnLeaving,
}

/// The end of a drain with its cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// Nothing lets the backend drain any longer, and it was not done.
    pub(super) cancelled: bool,
}

/// The drains of one backend.
#[derive(Debug, Default)]
pub(super) struct Drains {
    drains: Vec<Drain>,
    /// Since when it has had no work.
    quiet_since: Option<Instant>,
    done: bool,
}

impl Drains {
    pub(super) fn any(&self) -> bool {
        !self.drains.is_empty()
    }

    pub(super) fn has(&self, cause: Cause) -> bool {
        self.drains.iter().any(|drain| drain.cause == cause)
    }

    /// Whether it drains and nothing of it is left.
    pub(super) fn is_done(&self) -> bool {
        self.any() && self.done
    }

    /// Begins a drain; one of the same cause is replaced, and still began when it did.
    pub(super) fn begin(&mut self, cause: Cause, how: OnLeaving, deadline: Instant) {
        if !self.any() {
            (self.quiet_since, self.done) = (None, false);
        }
        let drain = Drain { cause, deadline, how };
        match self.drains.iter_mut().find(|known| known.cause == cause) {
            Some(known) => *known = drain,
            None => self.drains.push(drain),
        }
    }

    /// Ends the drain of a cause; `None`: there was none.
    pub(super) fn end(&mut self, cause: Cause) -> Option<Ended> {
        if !self.has(cause) {
            return None;
        }
        self.drains.retain(|drain| drain.cause != cause);
        Some(Ended { cancelled: !self.any() && !self.done })
    }

    /// Work has ended since the last look, though none may be in flight now.
    pub(super) fn worked(&mut self) {
        self.quiet_since = None;
    }

    /// Looks whether work is left; true when the drain has just become done.
    pub(super) fn observe(&mut self, in_flight: u32, now: Instant) -> bool {
        if self.done || !self.any() {
            return false;
        }
        if in_flight > 0 {
            self.quiet_since = None;
            return false;
        }
        let since = *self.quiet_since.get_or_insert(now);
        let over = self.deadline().is_some_and(|deadline| deadline <= now);
        self.done = over || now.duration_since(since) >= QUIET;
        self.done
    }

    /// The earliest of them.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.drains.iter().map(|drain| drain.deadline).min()
    }

    pub(super) fn leaving(&self, keep_affinity: bool, now: Instant) -> Option<Leaving> {
        let deadline = self.deadline()?;
        let terminated = self.drains.iter().any(|drain| drain.how == OnLeaving::Terminate);
        let cuts = self.drains.iter().filter(|drain| drain.how == OnLeaving::Drain);
        let cut = match cuts.map(|drain| drain.deadline).min() {
            _ if terminated => Cut::Now,
            Some(deadline) => Cut::At(deadline),
            None => Cut::Never,
        };
        let keeps_affinity = keep_affinity && !terminated && !self.done && now < deadline;
        let cause = self.drains.first()?.cause;
        Some(Leaving {
            cause,
            ordered: self.has(Cause::Order),
            fleet: self.has(Cause::Fleet),
            removed: self.has(Cause::Removal),
            deadline,
            keeps_affinity,
            cut,
            done: self.done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_end_of_the_last_one_that_was_not_done_is_cancelled() {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(30);
        let mut drains = Drains::default();
        assert_eq!(drains.end(Cause::Order), None);
        drains.begin(Cause::Order, OnLeaving::Drain, deadline);
        drains.begin(Cause::Maintenance, OnLeaving::Drain, deadline);
        assert_eq!(drains.end(Cause::Order), Some(Ended { cancelled: false }));
        assert_eq!(drains.end(Cause::Maintenance), Some(Ended { cancelled: true }));
        drains.begin(Cause::Maintenance, OnLeaving::Drain, deadline);
        assert!(!drains.observe(0, now) && drains.observe(0, now + QUIET));
        assert_eq!(drains.end(Cause::Maintenance), Some(Ended { cancelled: false }));
        assert!(!drains.is_done());
    }
}
