//! Stopping without losing a request: the signal, and the wait until all work is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

/// How long idle connections stay open, and new ones are taken, once the sidecar stops: whoever
/// sent a request just before the signal, or does not know of it yet, is still answered.
const LINGER: Duration = Duration::from_secs(1);

/// How far a sidecar is on its way out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Running,
    /// Not ready any more; answers say `Connection: close`.
    Draining,
    /// Nothing new is taken; idle connections are closed.
    Closing,
}

/// Counts the connections that are open.
#[derive(Debug, Clone, Default)]
pub struct Guards(Arc<Open>);

#[derive(Debug, Default)]
struct Open {
    count: AtomicUsize,
    none: Notify,
}

/// One open connection.
#[derive(Debug)]
pub struct Guard(Guards);

impl Guards {
    pub fn guard(&self) -> Guard {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Guard(self.clone())
    }

    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    /// Ends when there is none.
    pub async fn gone(&self) {
        loop {
            let none = self.0.none.notified();
            if self.count() == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The permit is kept if nobody waits yet.
            self.0.0.none.notify_one();
        }
    }
}

/// Goes through the phases; true when all work has ended by itself within `grace`.
pub async fn drain(phase: &watch::Sender<Phase>, work: &Guards, grace: Duration) -> bool {
    let deadline = Instant::now() + grace;
    phase.send_replace(Phase::Draining);
    tokio::time::sleep(LINGER.min(grace)).await;
    phase.send_replace(Phase::Closing);
    timeout_at(deadline, work.gone()).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_last_guard_goes_or_the_grace_is_over() {
        let grace = Duration::from_secs(25);
        let (phase, mut seen) = watch::channel(Phase::Running);
        let guards = Guards::default();
        let start = Instant::now();
        assert!(drain(&phase, &guards, grace).await);
        assert_eq!((start.elapsed(), *seen.borrow_and_update()), (LINGER, Phase::Closing));

        let guard = guards.guard();
        let work = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            drop(guard);
        };
        let start = Instant::now();
        let (whole, ()) = tokio::join!(drain(&phase, &guards, grace), work);
        assert!(whole && start.elapsed() == Duration::from_secs(7));

        let _stuck = guards.guard();
        let start = Instant::now();
        assert!(!drain(&phase, &guards, grace).await);
        assert_eq!(start.elapsed(), grace);
    }
}
