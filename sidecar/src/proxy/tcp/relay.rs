//! Both directions of a connection, until it ends.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use super::site::Site;
use super::way::{Broken, Way};
use crate::net::dial::{Patience, Stream, has_vanished};
use crate::proxy::cluster::LocalCluster;
use crate::proxy::timer::Timer;
use crate::telemetry::access::Moved;
use crate::telemetry::metrics::{End, Outcome};
use crate::upstream::{Connection, Work};

/// So old is a connection when the kernel is told to see whether the backend's machine is there: many are
/// over before, and it takes four system calls.
const YOUNG: Duration = Duration::from_secs(1);

/// A connection whose backend is connected.
pub(super) struct Relay<'a> {
    app: Stream,
    backend: &'a mut Connection,
    there: Way,
    back: Way,
    cluster: &'a LocalCluster,
    site: &'a Site,
    idle: Timer,
    age: Option<Timer>,
    /// `None`: the backend's machine is watched.
    young: Option<Timer>,
    counted: Moved,
    /// Whether one side had ended when it was last looked.
    half_closed: bool,
    /// Whether both sides have ended by themselves.
    finished: bool,
}

impl<'a> Relay<'a> {
    /// `first`: what the backend is sent before anything that is read from the app from now on.
    pub(super) fn new(
        app: Stream,
        backend: &'a mut Connection,
        first: Vec<u8>,
        cluster: &'a LocalCluster,
        site: &'a Site,
    ) -> Self {
        let timeouts = cluster.settings().timeouts;
        let timer = |after| {
            let timer = site.timers.timer();
            timer.set(after);
            timer
        };
        let is_raw = backend.is_raw();
        let there = Way::starting_with(first, is_raw);
        Self {
            app,
            backend,
            there,
            back: Way::default(),
            cluster,
            site,
            idle: timer(timeouts.idle),
            age: timeouts.max_age.map(|max| timer(Some(spread(max)))),
            young: is_raw.then(|| timer(Some(YOUNG))),
            counted: Moved::default(),
            half_closed: false,
            finished: false,
        }
    }

    /// Carries both directions to their end, which the value tells, and judges the backend by it.
    pub(super) async fn run(mut self, work: &mut Work) -> (End, Moved) {
        let (end, outcome) = poll_fn(|cx| self.poll(work, cx)).await;
        work.pick.outcome(outcome);
        self.finished = end == End::Finished;
        (end, self.counted)
    }

    fn poll(&mut self, work: &mut Work, cx: &mut Context<'_>) -> Poll<(End, Outcome)> {
        let is_deaf = self.is_deaf();
        let (tools, backend) = (&self.site.tools, &mut self.backend.wire.stream);
        let there = match is_deaf {
            true => Poll::Ready(Ok(())),
            false => self.there.poll(&mut self.app, backend, self.back.shut, tools, cx),
        };
        if let Poll::Ready(Err(Broken::To(_))) = there {
            // What it has said before is still brought to the app.
            self.back.breaks_off = true;
        }
        let back = self.back.poll(backend, &mut self.app, self.there.shut, tools, cx);
        self.count(work);
        match there {
            Poll::Ready(Err(Broken::From(_))) => return ready(End::ByApp, Outcome::Cancelled),
            Poll::Ready(Err(Broken::To(error))) if has_vanished(&error) => {
                return ready(End::ByBackend, Outcome::Timeout);
            }
            _ => {}
        }
        match back {
            Poll::Ready(Err(Broken::To(_))) => return ready(End::ByApp, Outcome::Cancelled),
            Poll::Ready(Err(Broken::From(error))) if has_vanished(&error) => {
                return ready(End::ByBackend, Outcome::Timeout);
            }
            Poll::Ready(Err(Broken::From(_))) => return ready(End::ByBackend, self.broken_off()),
            Poll::Ready(Ok(())) if self.is_deaf() => {
                return ready(End::ByBackend, self.broken_off());
            }
            Poll::Ready(Ok(())) if there.is_ready() => {
                return ready(End::Finished, Outcome::Success);
            }
            // It never listened: whoever stands in for a backend that is gone does that.
            Poll::Ready(Ok(())) if self.is_mute() => return ready(End::ByBackend, Outcome::Reset),
            _ => {}
        }
        self.poll_limits(work, cx)
    }

    /// What ends a connection though both sides would go on.
    fn poll_limits(&mut self, work: &Work, cx: &mut Context<'_>) -> Poll<(End, Outcome)> {
        let aged = self.age.as_ref().is_some_and(|age| age.poll(cx).is_ready());
        // A move is nothing to what may not begin anew.
        if work.poll(cx).is_ready() {
            return ready(End::Drained, Outcome::Cancelled);
        }
        if self.young.as_ref().is_some_and(|young| young.poll(cx).is_ready()) {
            self.backend.set_patience(Patience::Long);
            self.young = None;
        }
        match self.idle.poll(cx) {
            _ if aged => ready(End::MaxAge, Outcome::Success),
            Poll::Ready(()) => ready(End::Idle, Outcome::Success),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Counts what has moved; whoever moves something is not idle.
    fn count(&mut self, work: &mut Work) {
        let now = Moved { to_backend: self.there.moved, from_backend: self.back.moved };
        let there = now.to_backend - self.counted.to_backend;
        let back = now.from_backend - self.counted.from_backend;
        self.counted = now;
        if back > 0 && work.pick.is_trial() {
            work.pick.answered(false, None);
        }
        let half_closed = self.there.ended || self.back.ended || self.is_deaf();
        if there + back > 0 {
            let metrics = self.cluster.metrics();
            metrics.bytes_to_backend.increment(there);
            metrics.bytes_from_backend.increment(back);
        }
        if there + back > 0 || half_closed != self.half_closed {
            let timeouts = &self.cluster.settings().timeouts;
            self.idle.set(if half_closed { timeouts.half_closed } else { timeouts.idle });
            self.half_closed = half_closed;
        }
    }

    /// Whether the backend could not be written any more.
    fn is_deaf(&self) -> bool {
        self.back.breaks_off
    }

    /// What it says of a backend that it broke off: nothing once it has answered, since then only the
    /// protocol knows whether that was to be.
    fn broken_off(&self) -> Outcome {
        if self.counted.from_backend == 0 { Outcome::Reset } else { Outcome::Stale }
    }

    /// Whether the backend has ended before anybody has said anything, or the app has ended.
    fn is_mute(&self) -> bool {
        self.counted.from_backend == 0 && self.counted.to_backend == 0 && !self.there.ended
    }
}

/// Neither side may take what broke off for whole, also when it is the worker that ends.
impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.app.reset_on_close();
            self.backend.wire.stream.reset_on_close();
        }
    }
}

fn ready(end: End, outcome: Outcome) -> Poll<(End, Outcome)> {
    Poll::Ready((end, outcome))
}

/// Somewhat less, so that connections that came together do not go together.
fn spread(age: Duration) -> Duration {
    age.mul_f64(1.0 - 0.1 * fastrand::f64())
}
