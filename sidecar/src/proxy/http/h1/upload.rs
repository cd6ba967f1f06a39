//! The body of a request, on its way to the backend.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::defect::Defect;
use super::downstream::Downstream;
use super::exchange::Plan;
use super::framing::Framing;
use super::relay::{Relay, RelayError, Side, Trailers};
use crate::net::wire::Wire;

/// The slowest rate at which a body may come, over the time that was spent waiting for it once
/// that is more than the grace: what trickles in slower holds a connection to a backend for no
/// honest reason.
const MIN_RATE: f64 = 100.0;
const RATE_GRACE: Duration = Duration::from_secs(10);

/// A request on its way, its head included.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    relay: Relay,
    state: State,
    plan: &'a Plan<'a>,
    /// How long the backend may be silent after the latest piece.
    patience: Option<Duration>,
    /// Bytes of it that the metrics know of.
    counted: u64,
    /// Time spent waiting for the app, and since when it is being waited for now.
    waited: Duration,
    waiting_since: Option<Instant>,
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    Done,
    /// The backend takes no more of it: it has answered or closed.
    Stopped,
}

/// Why a request did not arrive, where the app is at fault.
#[derive(Debug, Clone, Copy)]
pub(super) enum UploadError {
    Defect(Defect),
    AppGone,
}

impl<'a> Upload<'a> {
    pub(super) fn new(plan: &'a Plan<'_>, patience: Option<Duration>) -> Self {
        let chunked = (plan.framing == Framing::Chunked).then_some(Trailers::Kept);
        Self {
            relay: Relay::new(plan.framing, chunked),
            state: State::Flowing,
            plan,
            patience,
            counted: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            answered: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// The head of the answer is here. An error means that the backend will not use the rest
    /// (RFC 9112, section 9.3); after a success both sides may still be talking.
    pub(super) fn answered(&mut self, success: bool) {
        self.patience = self.plan.cluster().settings().timeouts.stream_idle;
        self.answered = true;
        if self.state == State::Flowing && !success {
            self.state = State::Stopped;
        }
    }

    /// Sends what can be sent; ready when there is no more to send or it cannot be. From then on
    /// the app only has to stay.
    pub(super) fn poll(
        &mut self,
        app: &mut Downstream,
        backend: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        if self.state == State::Flowing {
            ready!(self.poll_flow(app, backend, cx))?;
        }
        // Not once it was stopped: what is in the input may be needed to send it again, and a
        // read would write over it.
        match self.state == State::Done && app.poll_gone(cx).is_ready() {
            true => Poll::Ready(Err(UploadError::AppGone)),
            false => Poll::Ready(Ok(())),
        }
    }

    /// Sends what is left after an answer, for as long as the backend takes it.
    pub(super) async fn finish(&mut self, app: &mut Downstream, backend: &mut Wire) {
        app.upstream.set(self.patience);
        poll_fn(|cx| {
            let ended = self.state != State::Flowing || self.poll(app, backend, cx).is_ready();
            // It has closed, or says what nobody asked for.
            if ended || backend.poll_fill(cx).is_ready() {
                return Poll::Ready(());
            }
            app.upstream.poll(cx)
        })
        .await;
        app.upstream.clear();
    }

    fn poll_flow(
        &mut self,
        app: &mut Downstream,
        backend: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        let before = (app.wire.read, backend.written);
        let sent = self.relay.poll(&mut app.wire, backend, cx);
        self.count();
        if before != (app.wire.read, backend.written) {
            self.progress(app)?;
        }
        match sent {
            Poll::Ready(Ok(())) => self.end(app, State::Done),
            // It may have said why before it closed.
            Poll::Ready(Err(RelayError::To(_))) => {
                backend.output.clear();
                self.end(app, State::Stopped);
            }
            Poll::Ready(Err(RelayError::From(_))) => {
                return Poll::Ready(Err(UploadError::AppGone));
            }
            Poll::Ready(Err(RelayError::Defect(defect))) => {
                return Poll::Ready(Err(UploadError::Defect(defect)));
            }
            Poll::Pending if self.relay.waiting == Side::From => {
                self.waiting_since.get_or_insert_with(Instant::now);
                // Two that talk may well be silent for a while.
                let limit = if self.answered { self.patience } else { app.timeouts.body_idle };
                ready!(app.poll_idle(limit, cx));
                return Poll::Ready(Err(UploadError::Defect(Defect::BodyIdle)));
            }
            Poll::Pending => {
                app.read.clear();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, app: &Downstream, state: State) {
        app.read.clear();
        self.state = state;
    }

    fn progress(&mut self, app: &Downstream) -> Result<(), UploadError> {
        app.read.clear();
        app.upstream.set(self.patience);
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
            let owed = self.waited.as_secs_f64() * MIN_RATE;
            if !self.answered && self.waited > RATE_GRACE && (self.relay.moved as f64) < owed {
                return Err(UploadError::Defect(Defect::BodyTooSlow));
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        let new = self.relay.moved - self.counted;
        if new > 0 {
            self.plan.sent(new);
            self.counted = self.relay.moved;
        }
    }
}
