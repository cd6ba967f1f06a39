//! A connection with what was read from it and what is to be written to it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::buffer::Buffer;
use super::dial::Stream;

/// Written over more often than allocated: an output above this is given back when it is sent.
const KEPT: usize = 16 << 10;
/// What is left of it while the connection is quiet.
const QUIET: usize = 1 << 10;

#[derive(Debug)]
pub struct Wire {
    pub stream: Stream,
    pub input: Buffer,
    pub output: Output,
    /// Bytes read and written so far.
    pub read: u64,
    pub written: u64,
    /// Whether the other side has said its last.
    pub ended: bool,
    /// Whether what was written may lie in the stream still, as it does with TLS.
    unflushed: bool,
}

/// Bytes to be written, and how far that has come.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// Where to put more.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that are still to be written.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what is left.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.sent = 0;
    }

    fn advance(&mut self, written: usize) -> usize {
        let own = written.min(self.len());
        self.sent += own;
        if self.is_empty() && self.sent > 0 {
            self.clear();
        }
        written - own
    }
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        let (input, output) = (Buffer::default(), Output::default());
        Self { stream, input, output, read: 0, written: 0, ended: false, unflushed: false }
    }

    /// Gives memory back that only a large message needed; for when no message is under way.
    pub fn shrink(&mut self) {
        self.input.shrink();
        self.output.bytes.shrink_to(QUIET);
    }

    /// Reads once into the input, 0 at the end of the stream; see [`Buffer::poll_fill`].
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.input.poll_fill(&mut self.stream, cx))?;
        self.read += read as u64;
        self.ended = read == 0;
        Poll::Ready(Ok(read))
    }

    /// Writes once: first what is in the output, then `data`, then `tail`. The value is how many
    /// bytes of the latter two were taken.
    pub fn poll_write(
        &mut self,
        data: &[u8],
        tail: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let own = &self.output.bytes[self.output.sent..];
        let stream = Pin::new(&mut self.stream);
        // A vectored write costs the kernel more to read than a plain one.
        let written = match (own, data, tail) {
            (only, [], []) | ([], only, []) | ([], [], only) => ready!(stream.poll_write(cx, only)),
            _ => {
                let slices = [IoSlice::new(own), IoSlice::new(data), IoSlice::new(tail)];
                ready!(stream.poll_write_vectored(cx, &slices))
            }
        }?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written += written as u64;
        self.unflushed = !self.stream.is_plain();
        Poll::Ready(Ok(self.output.advance(written)))
    }

    /// Writes the output to its end, and what the stream itself holds back.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            ready!(self.poll_write(&[], &[], cx))?;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
