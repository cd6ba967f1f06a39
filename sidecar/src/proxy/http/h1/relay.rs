//! Moving a body from one connection to another, framed anew.
//!
//! Nothing is kept but what is under way: the next read waits for the last write, so whoever is
//! slower sets the pace of both sides. Small pieces are gathered behind the head, so that a short
//! message is one write; large ones are written from where they were read.

use std::io;
use std::task::{Context, Poll, ready};

use super::decoder::{Decoder, Step};
use super::defect::Defect;
use super::framing::Framing;
use crate::net::wire::Wire;

/// Pieces up to this are copied behind what is to be written anyway.
const SMALL: usize = 4 << 10;
/// So much is gathered before it is written.
const GATHERED: usize = 16 << 10;

/// A body on its way. What is to be written before it, its head, lies in the output already.
#[derive(Debug)]
pub(super) struct Relay {
    decoder: Decoder,
    /// Whether it leaves in chunks, and whether the trailers leave with it.
    chunked: Option<Trailers>,
    /// Data at the start of the input that is being written.
    piece: usize,
    /// Bytes of the end of a chunk that are still to be written after the piece.
    tail: usize,
    /// Whether the end has been put into the output.
    ended: bool,
    /// Data written so far.
    pub(super) moved: u64,
    /// On which side it waits, after it was pending.
    pub(super) waiting: Side,
}

/// What happens to the trailers of a body that leaves in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trailers {
    Kept,
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

/// Why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error("reading failed: {0}")]
    From(io::Error),
    /// What was read is not a body.
    #[error("{}", .0.why())]
    Defect(Defect),
    #[error("writing failed: {0}")]
    To(io::Error),
}

impl Relay {
    pub(super) fn new(framing: Framing, chunked: Option<Trailers>) -> Self {
        let decoder = Decoder::new(framing);
        Self { decoder, chunked, piece: 0, tail: 0, ended: false, moved: 0, waiting: Side::From }
    }

    /// Moves as much as can be moved now; ready when all has been.
    pub(super) fn poll(
        &mut self,
        from: &mut Wire,
        to: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RelayError>> {
        loop {
            if self.piece == 0 && self.tail == 0 {
                self.gather(from, to).map_err(RelayError::Defect)?;
            }
            if self.piece > 0 || self.tail > 0 || !to.output.is_empty() {
                self.waiting = Side::To;
                match self.write(from, to, cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(RelayError::To(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.waiting = Side::To;
            ready!(to.poll_flush(cx)).map_err(RelayError::To)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.waiting = Side::From;
            match from.poll_fill(cx) {
                Poll::Ready(Ok(0)) => self.decoder.end_of_stream().map_err(RelayError::Defect)?,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(RelayError::From(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Puts what has been read into the output, or finds the next piece to be written from where
    /// it is.
    fn gather(&mut self, from: &mut Wire, to: &mut Wire) -> Result<(), Defect> {
        while !self.ended && to.output.len() < GATHERED {
            let data = match self.decoder.next(&mut from.input)? {
                Step::More => return Ok(()),
                Step::End => {
                    self.end(to);
                    return Ok(());
                }
                Step::Data(data) => data,
            };
            let out = to.output.bytes();
            if self.chunked.is_some() {
                write_size(out, data);
            }
            if data > SMALL {
                self.piece = data;
                self.tail = if self.chunked.is_some() { CRLF.len() } else { 0 };
                return Ok(());
            }
            out.extend_from_slice(&from.input.unused()[..data]);
            if self.chunked.is_some() {
                out.extend_from_slice(CRLF);
            }
            from.input.consume(data);
            self.moved += data as u64;
        }
        Ok(())
    }

    fn end(&mut self, to: &mut Wire) {
        if let Some(trailers) = self.chunked {
            let out = to.output.bytes();
            out.extend_from_slice(b"0\r\n");
            if trailers == Trailers::Kept {
                out.extend_from_slice(self.decoder.trailers());
            }
            out.extend_from_slice(CRLF);
        }
        self.ended = true;
    }

    fn write(
        &mut self,
        from: &mut Wire,
        to: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let data = &from.input.unused()[..self.piece];
        let tail = &CRLF[CRLF.len() - self.tail..];
        let written = ready!(to.poll_write(data, tail, cx))?;
        let data = written.min(self.piece);
        from.input.consume(data);
        self.piece -= data;
        self.tail -= written - data;
        self.moved += data as u64;
        Poll::Ready(Ok(()))
    }
}

const CRLF: &[u8] = b"\r\n";

fn write_size(out: &mut Vec<u8>, size: usize) {
    use std::io::Write;
    // Writing to memory does not fail.
    let _ = write!(out, "{size:x}\r\n");
}
