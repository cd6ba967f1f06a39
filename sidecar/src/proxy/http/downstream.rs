//! The app's side of one connection: its socket, its deadlines, and where it stands.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::headers::Sender;
use crate::config::ListenerTimeouts;
use crate::net::dial::Stream;
use crate::proxy::timer::{Timer, Timers};

/// What a connection and the one request that it carries at a time share.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) sender: Sender,
    pub(super) timeouts: ListenerTimeouts,
    /// Waiting for a request, the rest of a head, or more of a request body.
    pub(super) read: Timer,
    /// Waiting for the app to take what is written.
    write: Timer,
    /// Waiting for the backend.
    pub(super) upstream: Timer,
    phase: Cell<Phase>,
    /// Whether the app has closed its side.
    pub(super) ended: Cell<bool>,
    /// Whether an answer broke off: then the connection is reset, so that even an answer that
    /// only the close delimits is not taken for whole.
    pub(super) truncated: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Part of a head has been read.
    Head,
    /// From a whole head to the end of its answer.
    Busy,
}

/// A deadline of the connection that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Idle,
    Head,
    WriteStall,
}

impl Downstream {
    pub(super) fn new(
        peer: Option<IpAddr>,
        timeouts: ListenerTimeouts,
        timers: &Rc<Timers>,
    ) -> Rc<Self> {
        let downstream = Self {
            sender: Sender::new(peer),
            timeouts,
            read: timers.timer(),
            write: timers.timer(),
            upstream: timers.timer(),
            phase: Cell::new(Phase::Idle),
            ended: Cell::new(false),
            truncated: Cell::new(false),
        };
        downstream.request_ended();
        Rc::new(downstream)
    }

    /// A head is complete: the app now waits for us.
    pub(super) fn request_began(&self) {
        self.phase.set(Phase::Busy);
        self.read.clear();
    }

    /// The answer is complete: we now wait for the app.
    pub(super) fn request_ended(&self) {
        self.phase.set(Phase::Idle);
        self.upstream.clear();
        self.read.set(self.timeouts.idle);
    }

    /// Which deadline has passed; wakes the caller when the next one does.
    pub(super) fn overdue(&self, cx: &mut Context<'_>) -> Poll<Overdue> {
        if self.write.poll(cx).is_ready() {
            return Poll::Ready(Overdue::WriteStall);
        }
        match self.phase.get() {
            // Whoever reads the body looks after its deadline.
            Phase::Busy => Poll::Pending,
            Phase::Idle => self.read.poll(cx).map(|()| Overdue::Idle),
            Phase::Head => self.read.poll(cx).map(|()| Overdue::Head),
        }
    }

    fn received(&self, bytes: usize) {
        if bytes == 0 {
            self.ended.set(true);
        } else if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.read.set(self.timeouts.head);
        }
    }

    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        match &result {
            Poll::Ready(_) => self.write.clear(),
            Poll::Pending => self.write.set_if_clear(self.timeouts.write_stall),
        }
        result
    }
}

/// The socket, telling [`Downstream`] what it does.
#[derive(Debug)]
pub(super) struct Io {
    pub(super) stream: Stream,
    pub(super) downstream: Rc<Downstream>,
}

impl Io {
    /// From now on closing discards what is unsent, and the app sees a reset.
    pub(super) fn reset_on_close(&self) {
        let now = Some(Duration::ZERO);
        // A unix socket has no reset; its close is all there is to see.
        if let Stream::Tcp(stream) = &self.stream {
            let _ = socket2::SockRef::from(stream).set_linger(now);
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = result {
            self.downstream.received(buf.filled().len() - before);
        }
        result
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.downstream.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.downstream.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.downstream.truncated.get() {
            // An orderly end would say that the answer was whole.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
