//! A connection as [`serve`] and [`forward`] read it, without sockets.
//!
//! [`serve`]: ../../../sidecar/src/proxy/http/h1/serve.rs
//! [`forward`]: ../../../sidecar/src/proxy/http/h1/forward.rs

use std::task::{Context, Poll, Waker};

use crate::message::{Fields, Head, Message, Text, place};
use crate::net::buffer::Buffer;
use crate::proxy::http::h1::decoder::{Decoder, Step};
use crate::proxy::http::h1::defect::Defect;
use crate::proxy::http::h1::fields::Fields as Parsed;
use crate::proxy::http::h1::framing::{self, Framing};
use crate::proxy::http::h1::head::{Progress, RequestHead, ResponseHead};
use crate::proxy::http::h1::target;

/// As many as `forward` takes.
const MAX_INTERIMS: usize = 32;

/// Bytes that arrive in pieces.
#[derive(Debug)]
pub struct Input<'a> {
    buffer: Buffer,
    coming: &'a [u8],
    /// Lengths of the pieces, over and over; all at once if there are none.
    pieces: &'a [u8],
    filled: usize,
    /// Whether the sender has more to say after the last byte, which never comes.
    open: bool,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8], pieces: &'a [u8]) -> Self {
        Self { buffer: Buffer::default(), coming: bytes, pieces, filled: 0, open: false }
    }

    pub fn stays_open(self, open: bool) -> Self {
        Self { open, ..self }
    }

    /// What has not been used.
    pub fn rest(&self) -> Text {
        Text([self.buffer.unused(), self.coming].concat())
    }

    /// Whether more came.
    fn fill(&mut self) -> bool {
        let piece = match self.pieces {
            [] => usize::MAX,
            pieces => usize::from(pieces[self.filled % pieces.len()]).max(1),
        };
        let mut piece = &self.coming[..piece.min(self.coming.len())];
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(read)) = self.buffer.poll_fill(&mut piece, &mut cx) else {
            panic!("there is no room for more");
        };
        self.coming = &self.coming[read..];
        self.filled += 1;
        read > 0
    }

    /// The body of a message, up to where it is whole or wrong.
    pub fn body(&mut self, framing: Framing, message: &mut Message) -> Result<(), BodyEnd> {
        let mut decoder = Decoder::new(framing);
        loop {
            match decoder.next(&mut self.buffer).map_err(BodyEnd::Defect)? {
                Step::Data(length) => {
                    let data = &self.buffer.unused()[..length];
                    assert!(!data.is_empty(), "a step without data");
                    message.body.0.extend_from_slice(data);
                    self.buffer.consume(length);
                }
                Step::More if self.fill() => {}
                Step::More if self.open => return Err(BodyEnd::Closed),
                Step::More => decoder.end_of_stream().map_err(|_| BodyEnd::Closed)?,
                Step::End => break,
            }
        }
        assert!(decoder.is_done(), "an end before the end");
        message.trailers = trailers(decoder.trailers());
        Ok(())
    }
}

/// How a body ends that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    Defect(Defect),
    /// Too little came.
    Closed,
}

fn fields(parsed: Parsed<'_>) -> Fields {
    Fields::new(parsed.iter().map(|field| (field.name, field.value)))
}

/// Lines as the decoder keeps them.
fn trailers(lines: &[u8]) -> Fields {
    let mut parsed = [httparse::EMPTY_HEADER; 101];
    let lines = [lines, b"\r\n"].concat();
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&lines, &mut parsed)
    else {
        panic!("trailers that are none: {}", lines.escape_ascii());
    };
    Fields::new(parsed.iter().map(|field| (field.name.as_bytes(), field.value)))
}

/// The requests of a connection, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Requests {
    pub served: Vec<Message>,
    pub end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing came after the latest request.
    Closed,
    /// The latest request asked for no more.
    Asked,
    Refused(Refused),
}

/// A request that is not served.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub defect: Defect,
    pub stage: Stage,
    /// What follows what was understood of it.
    pub rest: Text,
}

/// How far a request was understood.
#[derive(Debug, PartialEq, Eq)]
pub enum Stage {
    Nothing,
    /// Method, target as it was sent, and fields.
    Head(Box<Head>),
    /// All but the end of the body.
    Body(Box<Message>),
}

/// Serves a connection that the app closes after the last byte.
pub fn requests(mut input: Input<'_>) -> Requests {
    let mut served = Vec::new();
    let mut head = RequestHead::default();
    let end = loop {
        match next_request(&mut input, &mut head) {
            Err((defect, stage)) => {
                break End::Refused(Refused { defect, stage, rest: input.rest() });
            }
            Ok(None) => break End::Closed,
            Ok(Some(message)) => served.push(message),
        }
        let request = head.view();
        if !request.fields.keep_alive(request.http10) {
            break End::Asked;
        }
    };
    Requests { served, end }
}

fn next_request(
    input: &mut Input<'_>,
    head: &mut RequestHead,
) -> Result<Option<Message>, (Defect, Stage)> {
    let mut progress = Progress::default();
    loop {
        if !input.buffer.is_empty() {
            let parsed = head.parse(input.buffer.unused(), &mut progress);
            if let Some(length) = parsed.map_err(|defect| (defect, Stage::Nothing))? {
                input.buffer.consume(length);
                break;
            }
        }
        if !input.fill() {
            let idle = input.buffer.is_empty();
            return if idle { Ok(None) } else { Err((Defect::Head, Stage::Nothing)) };
        }
    }
    let request = head.view();
    let mut message = Message::default();
    message.head.first = request.method.to_owned();
    message.head.second = request.target.to_owned();
    message.head.http10 = request.http10;
    message.head.fields = fields(request.fields);
    let stage = || Stage::Head(message.head.clone().into());
    let target = target::check(&request).map_err(|defect| (defect, stage()))?;
    let framing = framing::of_request(&request).map_err(|defect| (defect, stage()))?;
    message.head.second = place(target.host, target.path, target.query);
    match input.body(framing, &mut message) {
        Ok(()) => Ok(Some(message)),
        Err(BodyEnd::Defect(defect)) => Err((defect, Stage::Body(message.into()))),
        Err(BodyEnd::Closed) => Err((Defect::Incomplete, Stage::Body(message.into()))),
    }
}

/// An answer, as far as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its body may not be whole: see `end`.
    pub message: Option<Message>,
    pub end: AnswerEnd,
    pub rest: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEnd {
    Whole {
        /// Whether the connection may carry another request.
        reusable: bool,
    },
    /// More must come.
    Waiting,
    /// The backend has closed the connection too early.
    Closed,
    Refused(Defect),
}

/// Reads the answer to a GET or a HEAD.
pub fn answer(mut input: Input<'_>, to_head: bool) -> Answer {
    let mut message = None;
    let end = match next_answer(&mut input, to_head, &mut message) {
        Ok(reusable) => AnswerEnd::Whole { reusable: reusable && input.open },
        Err(AnswerEnd::Closed) if input.open => AnswerEnd::Waiting,
        Err(end) => end,
    };
    Answer { message, end, rest: input.rest() }
}

fn next_answer(
    input: &mut Input<'_>,
    to_head: bool,
    message: &mut Option<Message>,
) -> Result<bool, AnswerEnd> {
    let mut head = ResponseHead::default();
    let framing = final_head(input, &mut head, to_head)?;
    let response = head.view();
    let message = message.insert(Message::default());
    message.head.first = response.status.to_string();
    message.head.second = String::from_utf8_lossy(response.reason).into_owned();
    message.head.http10 = response.http10;
    message.head.fields = fields(response.fields);
    input.body(framing, message).map_err(|end| match end {
        BodyEnd::Defect(defect) => AnswerEnd::Refused(defect),
        BodyEnd::Closed => AnswerEnd::Closed,
    })?;
    Ok(framing != Framing::UntilClose
        && input.rest().0.is_empty()
        && response.fields.keep_alive(response.http10))
}

/// The head of the final answer, and how its body is delimited.
fn final_head(
    input: &mut Input<'_>,
    head: &mut ResponseHead,
    to_head: bool,
) -> Result<Framing, AnswerEnd> {
    for _ in 0..MAX_INTERIMS {
        let mut progress = Progress::default();
        loop {
            if !input.buffer.is_empty() {
                let parsed = head.parse(input.buffer.unused(), &mut progress);
                if let Some(length) = parsed.map_err(AnswerEnd::Refused)? {
                    input.buffer.consume(length);
                    break;
                }
            }
            if !input.fill() {
                return Err(AnswerEnd::Closed);
            }
        }
        let response = head.view();
        match response.status {
            // Nobody asked for it.
            101 => return Err(AnswerEnd::Refused(Defect::Switch)),
            100..=199 => {}
            _ => return framing::of_response(&response, to_head).map_err(AnswerEnd::Refused),
        }
    }
    Err(AnswerEnd::Refused(Defect::TooManyInterims))
}
