//! The app's side of a connection: its socket, its deadlines, and the next request on it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::defect::Defect;
use super::head::{Progress, RequestHead};
use super::write::Sender;
use crate::config::ListenerTimeouts;
use crate::net::dial::Stream;
use crate::net::wire::Wire;
use crate::proxy::timer::{Timer, Timers};

#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) wire: Wire,
    pub(super) sender: Sender,
    pub(super) timeouts: ListenerTimeouts,
    /// Waiting for the app to send.
    pub(super) read: Timer,
    /// Waiting for the app to take what is written.
    write: Timer,
    /// Waiting for the backend.
    pub(super) upstream: Timer,
}

/// What comes next on a connection.
#[derive(Debug)]
pub(super) enum Next {
    Request,
    /// What was sent is no request.
    Refused(Defect),
    /// Nothing: the app has closed, was idle for too long, or the sidecar is stopping.
    End,
}

impl Downstream {
    pub(super) fn new(
        stream: Stream,
        sender: Sender,
        timeouts: ListenerTimeouts,
        timers: &Rc<Timers>,
    ) -> Self {
        Self {
            wire: Wire::new(stream),
            sender,
            timeouts,
            read: timers.timer(),
            write: timers.timer(),
            upstream: timers.timer(),
        }
    }

    /// Reads the next head and takes it out of the input.
    pub(super) async fn next(&mut self, head: &mut RequestHead, closing: &Cell<bool>) -> Next {
        self.wire.shrink();
        let idle = self.wire.input.is_empty();
        self.read.set(if idle { self.timeouts.idle } else { self.timeouts.head });
        let mut progress = Progress::default();
        let next = poll_fn(|cx| self.poll_next(head, &mut progress, closing, cx)).await;
        self.read.clear();
        next
    }

    fn poll_next(
        &mut self,
        head: &mut RequestHead,
        progress: &mut Progress,
        closing: &Cell<bool>,
        cx: &mut Context<'_>,
    ) -> Poll<Next> {
        loop {
            let idle = self.wire.input.is_empty();
            if !idle {
                match head.parse(self.wire.input.unused(), progress) {
                    Ok(Some(length)) => {
                        self.wire.input.consume(length);
                        return Poll::Ready(Next::Request);
                    }
                    Ok(None) => {}
                    Err(defect) => return Poll::Ready(Next::Refused(defect)),
                }
            }
            match self.wire.poll_fill(cx) {
                Poll::Ready(Ok(1..)) if idle => self.read.set(self.timeouts.head),
                Poll::Ready(Ok(1..)) => {}
                // Half a head and no more to come.
                Poll::Ready(Ok(0)) if !idle => return Poll::Ready(Next::Refused(Defect::Head)),
                Poll::Ready(_) => return Poll::Ready(Next::End),
                // Only now, when all that has arrived was read: a request that is here is served.
                Poll::Pending if idle && closing.get() => return Poll::Ready(Next::End),
                Poll::Pending => {
                    ready!(self.read.poll(cx));
                    let late = Next::Refused(Defect::HeadTimeout);
                    return Poll::Ready(if idle { Next::End } else { late });
                }
            }
        }
    }

    /// Waits for more of a request's body, for so long.
    pub(super) fn poll_idle(&self, limit: Option<Duration>, cx: &mut Context<'_>) -> Poll<()> {
        self.read.set_if_clear(limit);
        self.read.poll(cx)
    }

    /// Waits for the app to take what is written; ready when it has not for too long.
    pub(super) fn poll_stalled(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.write.set_if_clear(self.timeouts.write_stall);
        self.write.poll(cx)
    }

    /// The app has taken something.
    pub(super) fn moved(&self) {
        self.write.clear();
    }

    /// Writes all that is in the output.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let flushed = poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.wire.poll_flush(cx) {
                return Poll::Ready(flushed);
            }
            ready!(self.poll_stalled(cx));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await;
        self.write.clear();
        flushed
    }

    /// Ready when the app is gone for good while it waits for us. What else it sends is kept
    /// for later; that it will send no more is no reason not to answer.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.wire.input.is_empty() && !self.wire.ended {
            if ready!(self.wire.poll_fill(cx)).is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Ready when the app will send no more, or is gone for good. What else it sends is read for
    /// that, as far as there is room, and kept for later.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.wire.ended && self.wire.input.has_room() {
            ready!(self.wire.poll_fill(cx))?;
        }
        if self.wire.ended { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}
