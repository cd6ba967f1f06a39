//! The work of one worker, by backend, so that it can be ended from outside.
//!
//! The control thread cannot reach the tasks of a worker. It publishes a snapshot that says of
//! each backend when work with it ends; the worker looks at it every tick and tells those whom it
//! concerns, who find out when they are next polled.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::cluster::{Cut, Entry, Pick, Snapshot};

/// Work of one backend is ended over this much time, so that not everyone comes back at once.
const SPREAD: Duration = Duration::from_secs(1);
/// How often [`Works::follow`] is called.
pub const TICK: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Works {
    slots: RefCell<Slab<Slot>>,
}

#[derive(Debug)]
struct Slot {
    backend: u64,
    /// Whether it could be done by another backend instead.
    movable: bool,
    signal: Option<Signal>,
    waker: Option<Waker>,
}

/// What is wanted of work in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// It is to end now, done or not.
    Cut,
    /// Its backend has stalled: another may be asked.
    Move,
}

/// A pick, and its place among the work of the worker.
#[derive(Debug)]
pub struct Work {
    pub pick: Pick,
    works: Rc<Works>,
    key: usize,
}

impl Works {
    pub fn begin(self: &Rc<Self>, pick: Pick) -> Work {
        let backend = pick.backend.id;
        let slot = Slot { backend, movable: false, signal: None, waker: None };
        let key = self.slots.borrow_mut().insert(slot);
        Work { pick, works: Rc::clone(self), key }
    }

    /// Tells those whom the snapshot concerns.
    pub fn follow(&self, snapshot: &Snapshot, now: Instant) {
        let ends = |cut: Cut| match cut {
            Cut::Never => false,
            Cut::At(at) => at <= now,
            Cut::Now => true,
        };
        let concerned = |entry: &&Entry| ends(entry.cut) || entry.stalled;
        for entry in snapshot.entries.iter().filter(concerned) {
            let of_backend = self.untold(entry.backend.id);
            if entry.stalled {
                self.tell(&of_backend, Signal::Move);
            }
            let due = &of_backend[..due(entry.cut, of_backend.len(), now)];
            self.tell(due, Signal::Cut);
            due.iter().for_each(|_| entry.backend.force());
        }
    }

    /// The work of a backend that has not been told to end.
    fn untold(&self, backend: u64) -> Vec<usize> {
        let slots = self.slots.borrow();
        let untold = |slot: &Slot| slot.backend == backend && slot.signal != Some(Signal::Cut);
        slots.iter().filter(|(_, slot)| untold(slot)).map(|(key, _)| key).collect()
    }

    fn tell(&self, keys: &[usize], signal: Signal) {
        let mut slots = self.slots.borrow_mut();
        for key in keys {
            let Some(slot) = slots.get_mut(*key) else { continue };
            if signal == Signal::Cut || slot.movable {
                slot.signal = Some(signal);
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}

/// How many of so many are to be ended in this tick: an even share of what is left of the spread.
fn due(cut: Cut, left: usize, now: Instant) -> usize {
    match cut {
        Cut::Never => 0,
        Cut::Now => left,
        Cut::At(at) if now < at => 0,
        Cut::At(at) => {
            let time = (at + SPREAD).saturating_duration_since(now);
            let ticks = time.as_millis().div_ceil(TICK.as_millis()).max(1);
            left.div_ceil(usize::try_from(ticks).unwrap_or(1))
        }
    }
}

impl Work {
    /// Says whether it could be done by another backend instead.
    pub fn movable(&self, movable: bool) {
        if let Some(slot) = self.works.slots.borrow_mut().get_mut(self.key) {
            slot.movable = movable;
            if slot.signal == Some(Signal::Move) {
                slot.signal = None;
            }
        }
    }

    /// Ready when something is wanted of it. Only the latest caller is woken.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Signal> {
        let mut slots = self.works.slots.borrow_mut();
        let Some(slot) = slots.get_mut(self.key) else { return Poll::Pending };
        if let Some(signal) = slot.signal {
            return Poll::Ready(signal);
        }
        if slot.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.works.slots.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod timeline;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_ended_over_a_second_from_the_deadline_on() {
        let at = Instant::now() + Duration::from_secs(3);
        let (mut left, mut ended) = (25, Vec::new());
        for tick in 0..45 {
            let now = at + TICK * tick - Duration::from_secs(3);
            let due = due(Cut::At(at), left, now);
            ended.extend(std::iter::repeat_n(tick, due));
            left -= due;
        }
        assert_eq!((left, ended[0], ended[24]), (0, 30, 39));
        // A single one does not wait.
        assert_eq!(due(Cut::At(at), 1, at), 1);
        assert_eq!(due(Cut::Now, 7, at), 7);
    }
}
