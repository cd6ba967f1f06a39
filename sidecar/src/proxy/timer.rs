//! Deadlines that cost nothing per request.
//!
//! Every request sets and clears several deadlines and almost none is ever reached, so setting
//! one is a store to a cell, without a look at the clock: the next of the sweeps, of which there is
//! one per [`TICK`], starts it, and a later one finds that it has passed. So a deadline is met up to
//! two ticks late and never early, however late the sweeps are, which is all that timeouts of
//! seconds need.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

const TICK: Duration = Duration::from_millis(100);

/// The deadlines of one worker.
#[derive(Debug, Default)]
pub(super) struct Timers {
    slots: RefCell<Slab<Rc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Clear,
    /// So long after the next sweep.
    Set(Duration),
    Until(Instant),
    Passed,
}

/// One deadline, set and cleared at will.
#[derive(Debug)]
pub(super) struct Timer {
    timers: Rc<Timers>,
    slot: Rc<Slot>,
    key: usize,
}

impl Timers {
    pub(super) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(super) fn timer(self: &Rc<Self>) -> Timer {
        let slot = Rc::new(Slot::default());
        let key = self.slots.borrow_mut().insert(Rc::clone(&slot));
        Timer { timers: Rc::clone(self), slot, key }
    }

    /// Sweeps every tick, for as long as the worker lives.
    pub(super) async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            self.sweep(now);
        }
    }

    fn sweep(&self, now: Instant) {
        for (_, slot) in self.slots.borrow().iter() {
            match slot.state.get() {
                State::Set(after) => slot.state.set(State::Until(now + after)),
                State::Until(deadline) if deadline <= now => {
                    slot.state.set(State::Passed);
                    slot.wake();
                }
                State::Clear | State::Until(_) | State::Passed => {}
            }
        }
    }

    /// Wakes everyone who waits for a deadline, so that they look at the world again.
    pub(super) fn wake_all(&self) {
        self.slots.borrow().iter().for_each(|(_, slot)| slot.wake());
    }
}

impl Slot {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Timer {
    /// Sets the deadline anew; `None` is never.
    pub(super) fn set(&self, after: Option<Duration>) {
        self.slot.state.set(after.map_or(State::Clear, State::Set));
    }

    /// Sets the deadline unless one is set.
    pub(super) fn set_if_clear(&self, after: Option<Duration>) {
        if matches!(self.slot.state.get(), State::Clear) {
            self.set(after);
        }
    }

    pub(super) fn clear(&self) {
        self.slot.state.set(State::Clear);
    }

    /// Ready once the deadline has passed. Only the latest caller is woken.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.slot.state.get(), State::Passed) {
            return Poll::Ready(());
        }
        let mut waker = self.slot.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(timer: &Timer) {
        std::future::poll_fn(|cx| timer.poll(cx)).await;
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_deadline_is_met_late_by_two_ticks_at_most_and_never_early() {
        let timers = Timers::new();
        let start = Instant::now();
        let sweep = Rc::clone(&timers);
        let check = async {
            for after in [1, 99, 100, 250, 3000].map(Duration::from_millis) {
                let set = Instant::now();
                let timer = timers.timer();
                timer.set(Some(after));
                passed(&timer).await;
                let took = set.elapsed();
                assert!(took >= after && took <= after + 2 * TICK, "{after:?} took {took:?}");
                tokio::time::advance(Duration::from_millis(37)).await;
            }
        };
        tokio::select! { () = sweep.run() => {}, () = check => {} }
        assert!(start.elapsed() < Duration::from_secs(6));
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_cleared_deadline_never_comes() {
        let timers = Timers::new();
        let timer = timers.timer();
        timer.set(Some(Duration::from_millis(10)));
        timer.clear();
        let sweep = |seconds| timers.sweep(Instant::now() + Duration::from_secs(seconds));
        sweep(60);
        sweep(120);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(timer.poll(&mut cx).is_pending());
        timer.set(Some(Duration::from_millis(10)));
        // Whenever it was set since the sweep before: it has only begun.
        sweep(180);
        assert!(timer.poll(&mut cx).is_pending());
        sweep(240);
        assert!(timer.poll(&mut cx).is_ready());
        drop(timer);
        assert!(timers.slots.borrow().is_empty());
    }
}
