//! A backend that takes work and says nothing, while others answer.
//!
//! A stopped process accepts connections and requests as if it lived: nothing is refused, and
//! until a timeout nothing has failed. But its work piles up while the others' is answered, and
//! that shows within a quarter of a second.

use std::time::Duration;

use tokio::time::Instant;

use super::load::Counts;

/// Fewer attempts than this may be unlucky ones.
const OUTSTANDING: u32 = 5;
/// Silence that is never too long, whatever was usual before.
const PATIENCE: Duration = Duration::from_millis(250);
/// A silence of more than so many usual waits is unusual.
const UNUSUAL: u32 = 10;

#[derive(Debug)]
pub(super) struct Stall {
    counts: Counts,
    /// When an answer of it was last seen; `None` before the first.
    pub(super) answered_at: Option<Instant>,
    /// Since when it has had enough outstanding and answered none.
    silent_since: Instant,
    pub(super) stalled: bool,
}

impl Stall {
    pub(super) fn new(now: Instant) -> Self {
        Self { counts: Counts::default(), answered_at: None, silent_since: now, stalled: false }
    }

    /// Takes in what the backend has counted; true when it is no longer stalled.
    pub(super) fn observe(&mut self, counts: Counts, now: Instant) -> bool {
        let answered = counts.answered_since(self.counts) > 0;
        self.counts = counts;
        if answered {
            self.answered_at = Some(now);
        }
        if answered || counts.waiting < OUTSTANDING {
            self.silent_since = now;
        }
        // When nothing is left that it could answer, only new work can tell.
        let over = self.stalled && (answered || counts.waiting == 0);
        self.stalled &= !over;
        over
    }

    /// It has said something, if not to the work that it has.
    pub(super) fn end(&mut self) {
        self.stalled = false;
    }

    /// Whether it has been silent for too long, given what it usually takes.
    pub(super) fn is_silent(&self, usual: Option<Duration>, now: Instant) -> bool {
        let limit = usual.unwrap_or_default().saturating_mul(UNUSUAL).max(PATIENCE);
        self.answered_at.is_some() && now.duration_since(self.silent_since) >= limit
    }

    /// Whether it was silent already when somebody answered.
    pub(super) fn was_silent(&self, answered_at: Instant) -> bool {
        self.silent_since < answered_at
    }
}
