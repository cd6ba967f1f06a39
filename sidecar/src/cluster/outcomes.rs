//! What real traffic showed about a backend.
//!
//! A success writes nothing but the end of a streak of failures, of which there is hardly ever
//! one: how many there were follows from the answers that are counted anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;

use super::Event;
use crate::telemetry::metrics::Outcome;

#[derive(Debug)]
pub(super) struct Outcomes {
    failures: AtomicU32,
    /// Failures that came with an answer, or after it.
    answered_failures: AtomicU32,
    /// Failures since the last success, and those of them that were failures to connect.
    streak: AtomicU32,
    connect_streak: AtomicU32,
    /// `None`: nobody is judged by this.
    alarm: Option<Arc<Alarm>>,
}

/// Where to say that a streak has become long.
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) consecutive: u32,
    pub(super) consecutive_connect: u32,
}

impl Outcomes {
    pub(super) fn new(alarm: Option<Arc<Alarm>>) -> Self {
        Self {
            failures: AtomicU32::new(0),
            answered_failures: AtomicU32::new(0),
            streak: AtomicU32::new(0),
            connect_streak: AtomicU32::new(0),
            alarm,
        }
    }

    /// An attempt at the backend with this id has ended.
    pub(super) fn count(&self, id: u64, outcome: Outcome, answered: bool) {
        match outcome {
            Outcome::Success => self.forgive(),
            Outcome::ConnectFailed => {
                let in_a_row = self.connect_streak.fetch_add(1, Ordering::Relaxed) + 1;
                self.fail(id, answered, in_a_row);
            }
            Outcome::Reset | Outcome::Timeout | Outcome::Http5xx | Outcome::GrpcError => {
                clear(&self.connect_streak);
                self.fail(id, answered, 0);
            }
            // The app left, or an old connection had been closed: neither says anything.
            Outcome::Cancelled | Outcome::Stale | Outcome::Unused => {}
        }
    }

    fn fail(&self, id: u64, answered: bool, connects_in_a_row: u32) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if answered {
            self.answered_failures.fetch_add(1, Ordering::Relaxed);
        }
        let in_a_row = self.streak.fetch_add(1, Ordering::Relaxed) + 1;
        // Said once, when it becomes too many: what follows, and what finds the queue full, is
        // for the next sweep of the cluster to see.
        if let Some(alarm) = &self.alarm
            && (in_a_row == alarm.consecutive || connects_in_a_row == alarm.consecutive_connect)
        {
            let _ = alarm.events.try_send(Event::Suspect { id });
        }
    }

    fn is_long(&self, alarm: &Alarm) -> bool {
        self.streak.load(Ordering::Relaxed) >= alarm.consecutive
            || self.connect_streak.load(Ordering::Relaxed) >= alarm.consecutive_connect
    }

    /// Whether a streak has become too long.
    pub(super) fn is_suspect(&self) -> bool {
        self.alarm.as_ref().is_some_and(|alarm| self.is_long(alarm))
    }

    /// Ends the streaks.
    pub(super) fn forgive(&self) {
        clear(&self.streak);
        clear(&self.connect_streak);
    }

    /// All failures, and those that came with an answer or after it.
    pub(super) fn failures(&self) -> (u32, u32) {
        let answered = self.answered_failures.load(Ordering::Relaxed);
        (self.failures.load(Ordering::Relaxed), answered)
    }
}

/// Reads before it writes: nearly always there is nothing to write, and a cache line that is only
/// read is shared by all workers.
fn clear(streak: &AtomicU32) {
    if streak.load(Ordering::Relaxed) != 0 {
        streak.store(0, Ordering::Relaxed);
    }
}
