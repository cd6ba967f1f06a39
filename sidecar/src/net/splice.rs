//! Moving bytes from one socket to another inside the kernel, by `splice(2)`.
//!
//! A pipe stands between the two sockets, so it takes two system calls to move what is there. That
//! costs less than copying where there is much of it, and more where there is little.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;

use super::dial::Stream;

/// What a pipe is asked to hold. It holds less where the user has many pipes already.
const SIZE: usize = 512 << 10;
/// Pipes of one worker, each of two descriptors: more transfers at a time are copied.
const MAX_PIPES: usize = 64;
/// Pipes that are kept for later.
const KEPT: usize = 8;

/// The pipes of one worker.
#[derive(Debug, Default)]
pub struct Pipes {
    idle: RefCell<Vec<Ends>>,
    open: Cell<usize>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    pipes: Rc<Pipes>,
    /// Taken out when it is dropped.
    ends: Option<Ends>,
    held: usize,
}

impl Pipes {
    /// An empty pipe; `None` when there are too many, or the system gives none.
    pub fn take(self: &Rc<Self>) -> Option<Pipe> {
        let idle = self.idle.borrow_mut().pop();
        let ends = match idle {
            Some(ends) => ends,
            None if self.open.get() < MAX_PIPES => {
                let ends = Ends::open().ok()?;
                self.open.set(self.open.get() + 1);
                ends
            }
            None => return None,
        };
        Some(Pipe { pipes: Rc::clone(self), ends: Some(ends), held: 0 })
    }
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // It works with any size.
        let _ = fcntl_setpipe_size(&write, SIZE);
        Ok(Self { read, write })
    }
}

/// What is carried once the socket is ready, which it may turn out not to be after all.
macro_rules! once_ready {
    ($socket:ident, $poll:ident($cx:ident), $interest:ident, $carry:expr) => {
        loop {
            ready!($socket.$poll($cx))?;
            match $socket.try_io(Interest::$interest, || $carry) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => break moved?,
            }
        }
    };
}

impl Pipe {
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes in what has come, 0 at the end of the stream. The pipe has to be empty: a full one would
    /// look like a socket that has nothing.
    pub fn poll_fill(&mut self, from: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        let moved = match from {
            Stream::Tcp(socket) => {
                once_ready!(socket, poll_read_ready(cx), READABLE, carry(socket, &ends.write))
            }
            Stream::Unix(socket) => {
                once_ready!(socket, poll_read_ready(cx), READABLE, carry(socket, &ends.write))
            }
            Stream::Tls(_) => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        };
        self.held += moved;
        Poll::Ready(Ok(moved))
    }

    /// Gives out some of what is in it.
    pub fn poll_drain(&mut self, to: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        let moved = match to {
            Stream::Tcp(socket) => {
                once_ready!(socket, poll_write_ready(cx), WRITABLE, carry(&ends.read, socket))
            }
            Stream::Unix(socket) => {
                once_ready!(socket, poll_write_ready(cx), WRITABLE, carry(&ends.read, socket))
            }
            Stream::Tls(_) => return Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        };
        if moved == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.held = self.held.saturating_sub(moved);
        Poll::Ready(Ok(moved))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut idle = self.pipes.idle.borrow_mut();
        match self.ends.take() {
            Some(ends) if self.held == 0 && idle.len() < KEPT => idle.push(ends),
            // What is left in it is of nobody else.
            _ => self.pipes.open.set(self.pipes.open.get().saturating_sub(1)),
        }
    }
}

fn carry(from: impl AsFd, to: impl AsFd) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    Ok(splice(from, None, to, None, SIZE, flags)?)
}
