//! Bytes that were read and not yet used.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Enough for the heads of most messages; what a quiet connection costs.
const SMALL: usize = 8 << 10;
/// Enough to make the system calls of a large transfer few; the most that can be unused.
const LARGE: usize = 64 << 10;

/// A window over memory that is filled at its end and used from its start.
#[derive(Debug, Default)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
    /// From where on used bytes are kept.
    held: Option<usize>,
    /// Whether the latest read took all the room there was, so that there may be more.
    filled: bool,
}

impl Buffer {
    /// What has been read and not used.
    pub fn unused(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether more can be read before some of it is used.
    pub fn has_room(&self) -> bool {
        self.unused().len() < LARGE
    }

    /// Marks bytes as used; at most as many as there are.
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Keeps what is used from here on, so that it can be had again: see [`Buffer::rewind`].
    pub fn hold(&mut self) {
        self.held = Some(self.start);
    }

    /// Makes what was used since `hold` unused again; false when it was more than there is room
    /// for beside what had to be read.
    pub fn rewind(&mut self) -> bool {
        let Some(held) = self.held else { return false };
        self.start = held;
        true
    }

    /// Whether all that was used since `hold` is still there.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Ends `hold`.
    pub fn release(&mut self) {
        self.held = None;
    }

    /// Reads once, 0 at the end of the stream. It is an error to read on while 64 KiB are unused.
    pub fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut space = ReadBuf::new(&mut self.memory[self.end..]);
        if space.capacity() == 0 {
            return Poll::Ready(Err(io::Error::other("more than the buffer holds is unused")));
        }
        ready!(Pin::new(reader).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        self.filled = space.remaining() == 0;
        self.end += read;
        Poll::Ready(Ok(read))
    }

    /// Gives memory back that only a large message needed.
    pub fn shrink(&mut self) {
        if self.memory.len() > SMALL && self.is_empty() {
            *self = Self::default();
        }
    }

    fn make_room(&mut self) {
        if self.end == LARGE && self.held.is_some_and(|held| held < self.start) {
            self.held = None;
        }
        let first = self.held.unwrap_or(self.start);
        if first == self.end {
            self.shift(first);
        }
        if self.end > self.memory.len() / 2 && first > 0 {
            self.memory.copy_within(first..self.end, 0);
            self.shift(first);
        }
        if self.memory.is_empty() {
            self.memory.resize(SMALL, 0);
        } else if self.memory.len() < LARGE && (self.filled || self.end == self.memory.len()) {
            self.memory.resize(LARGE, 0);
        }
    }

    /// Counts from `first` on.
    fn shift(&mut self, first: usize) {
        self.start -= first;
        self.end -= first;
        self.held = self.held.map(|held| held - first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn fill(buffer: &mut Buffer, mut bytes: &[u8]) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        match buffer.poll_fill(&mut bytes, &mut cx) {
            Poll::Ready(read) => read.unwrap(),
            Poll::Pending => 0,
        }
    }

    #[test]
    fn what_passes_through_needs_no_more_room() {
        let mut buffer = Buffer::default();
        fill(&mut buffer, b"head");
        for _ in 0..10_000 {
            fill(&mut buffer, b"body");
            buffer.consume(4);
            assert_eq!(buffer.unused().len(), 4);
        }
        assert_eq!(buffer.memory.len(), SMALL);
    }

    #[test]
    fn it_grows_when_it_was_full_and_shrinks_when_it_is_empty() {
        let mut buffer = Buffer::default();
        let bytes = vec![7; 200_000];
        assert_eq!(fill(&mut buffer, &bytes), SMALL);
        assert_eq!(fill(&mut buffer, &bytes), LARGE - SMALL);
        let mut cx = Context::from_waker(Waker::noop());
        let full = buffer.poll_fill(&mut bytes.as_slice(), &mut cx);
        assert!(matches!(full, Poll::Ready(Err(_))), "{full:?}");
        buffer.consume(LARGE);
        assert_eq!(fill(&mut buffer, &bytes), LARGE);
        buffer.shrink();
        assert_eq!(buffer.unused().len(), LARGE);
        buffer.consume(LARGE);
        buffer.shrink();
        assert_eq!(buffer.memory.capacity(), 0);
        assert_eq!(fill(&mut buffer, b"again"), 5);
    }

    #[test]
    fn used_bytes_can_be_taken_back() {
        let mut buffer = Buffer::default();
        fill(&mut buffer, b"before");
        buffer.consume(6);
        fill(&mut buffer, b"abcdef");
        buffer.hold();
        buffer.consume(6);
        // Reads in between do not write over them.
        fill(&mut buffer, &[7; 20_000]);
        buffer.consume(10_000);
        assert!(buffer.rewind());
        assert_eq!(&buffer.unused()[..6], b"abcdef");
        buffer.release();
        assert!(!buffer.rewind());
    }

    #[test]
    fn what_is_kept_gives_way_to_what_has_to_be_read() {
        let mut buffer = Buffer::default();
        buffer.hold();
        let mut passed = 0;
        while passed < 200_000 {
            let read = fill(&mut buffer, &[7; 3_000]);
            assert!(read > 0);
            buffer.consume(read);
            passed += read;
        }
        assert!(!buffer.rewind());
        assert_eq!(buffer.memory.len(), LARGE);
    }
}
