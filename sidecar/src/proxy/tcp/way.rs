//! One direction of a connection.
//!
//! What is read lies in memory that all connections of the worker share, and is written at once;
//! only what the other side has no room for is kept, and until it is gone nothing more is read. So
//! a quiet connection has no buffer, and whoever is slower sets the pace of both sides. A direction
//! that turns out to move much is taken over by the kernel.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::dial::Stream;
use crate::net::splice::{Pipe, Pipes};

const SCRATCH: usize = 64 << 10;
/// Reads in a row that found as much as they can take, after which there is likely to be more.
const BULK: u8 = 4;
/// A transfer inside the kernel that moves less than this is worth a copy, not two system calls.
const LITTLE: usize = 16 << 10;
/// Such transfers in a row, after which it is over.
const THIN: u8 = 32;
/// How often a direction goes on before others get their turn.
const TURNS: usize = 8;

/// What all connections of a worker share.
#[derive(Debug)]
pub(in crate::proxy) struct Tools {
    scratch: RefCell<Box<[u8]>>,
    pipes: Rc<Pipes>,
}

impl Default for Tools {
    fn default() -> Self {
        let scratch = RefCell::new(vec![0; SCRATCH].into());
        Self { scratch, pipes: Rc::default() }
    }
}

/// Why a direction has broken off.
#[derive(Debug)]
pub(super) enum Broken {
    /// It could not be read.
    From(io::Error),
    /// It could not be written.
    To(io::Error),
}

#[derive(Debug, Default)]
pub(super) struct Way {
    /// What was read and is still to be written, from `written` on.
    rest: Vec<u8>,
    written: usize,
    /// Whether a small piece would wait until the other side has said that it has what came before,
    /// which the first one does not.
    delays: bool,
    /// Whether something was written that may lie in the stream still.
    unflushed: bool,
    pipe: Option<Pipe>,
    full: u8,
    thin: u8,
    /// Bytes written so far.
    pub(super) moved: u64,
    /// Whether there is no more to read.
    pub(super) ended: bool,
    /// Whether the side that is read has broken off, which was found out by writing to it: that takes
    /// the error away, so that what is left to be read would seem to end well.
    pub(super) breaks_off: bool,
    /// Whether the other side has been told.
    pub(super) shut: bool,
}

impl Way {
    /// Begins with bytes that were read before. `delays`: the socket that is written to has not been told
    /// to send at once.
    pub(super) fn starting_with(rest: Vec<u8>, delays: bool) -> Self {
        Self { rest, delays, ..Self::default() }
    }

    /// Ready when one side has ended and the other has been told, or when it broke off. `closes`: the
    /// other one has ended before, so that it is told by being closed.
    pub(super) fn poll(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        closes: bool,
        tools: &Tools,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..TURNS {
            ready!(self.poll_out(to, cx)).map_err(Broken::To)?;
            if self.ended && self.breaks_off {
                return Poll::Ready(Err(Broken::From(io::ErrorKind::ConnectionReset.into())));
            }
            if self.ended {
                match closes && to.is_plain() {
                    true => to.check(),
                    false => ready!(to.poll_end(cx)),
                }
                .map_err(Broken::To)?;
                self.shut = true;
                self.pipe = None;
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_in(from, to, tools, cx))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when nothing that was read is left.
    fn poll_out(&mut self, to: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.rest.len() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.took(written);
            self.written += written;
        }
        if self.written > 0 {
            (self.rest, self.written) = (Vec::new(), 0);
        }
        if let Some(pipe) = &mut self.pipe {
            while !pipe.is_empty() {
                self.moved += ready!(pipe.poll_drain(to, cx))? as u64;
            }
            if self.thin >= THIN {
                (self.pipe, self.full) = (None, 0);
            }
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and writes what is taken at once.
    fn poll_in(
        &mut self,
        from: &mut Stream,
        to: &mut Stream,
        tools: &Tools,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if let Some(pipe) = &mut self.pipe {
            let read = ready!(pipe.poll_fill(from, cx)).map_err(Broken::From)?;
            self.ended = read == 0;
            self.thin = if read < LITTLE { self.thin + 1 } else { 0 };
            return Poll::Ready(Ok(()));
        }
        let mut scratch = tools.scratch.borrow_mut();
        let mut read = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut *from).poll_read(cx, &mut read)) {
            // Over TLS, an end that was not announced. Many do that, and what they say has its own
            // way of telling whether it is whole; to reset the other side could lose the last of it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            read => read.map_err(Broken::From)?,
        }
        let read = read.filled();
        if read.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.full = if read.len() == SCRATCH { self.full + 1 } else { 0 };
        if self.full >= BULK {
            (self.pipe, self.full, self.thin) = (bulk(from, to, tools), 0, 0);
        }
        if self.delays && self.moved > 0 {
            to.set_nodelay().map_err(Broken::To)?;
            self.delays = false;
        }
        match Pin::new(to).poll_write(cx, read) {
            Poll::Ready(written) => {
                let written = written.map_err(Broken::To)?;
                self.took(written);
                self.rest.extend_from_slice(&read[written..]);
            }
            Poll::Pending => self.rest.extend_from_slice(read),
        }
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, written: usize) {
        self.moved += written as u64;
        self.unflushed = true;
    }
}

/// A pipe, where the kernel can carry from one to the other.
fn bulk(from: &Stream, to: &Stream, tools: &Tools) -> Option<Pipe> {
    let plain = from.is_plain() && to.is_plain();
    plain.then(|| tools.pipes.take()).flatten()
}
