//! Taking a body out of the bytes it came in.
//!
//! Data is never copied here: [`Decoder::next`] says how many of the next bytes are data, and
//! whoever asked writes them on from where they are.

use httparse::Status;

use super::defect::Defect;
use super::fields::may_trail;
use super::framing::Framing;
use super::head::MAX_FIELDS;
use crate::net::buffer::Buffer;

/// Longest line with a chunk size: its extensions are of no use to us.
const MAX_SIZE_LINE: usize = 4 << 10;
/// Extensions of all chunks of a message.
const MAX_EXTENSIONS: usize = 16 << 10;
const MAX_TRAILERS: usize = 16 << 10;

/// What comes next in a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// So many of the next unused bytes are data: to be consumed before the next call.
    Data(usize),
    /// More must be read first.
    More,
    End,
}

#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// Bytes of extensions so far.
    extensions: usize,
    /// The trailers that may be passed on, as lines; empty for most messages.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of data to come; then the end, or what ends a chunk.
    Data {
        left: u64,
        chunked: bool,
    },
    UntilClose,
    Size,
    ChunkEnd,
    Trailers,
    Done,
}

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(left) => State::Data { left, chunked: false },
            Framing::Chunked => State::Size,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extensions: 0, trailers: Vec::new() }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that may be passed on, each line with its end.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// The next step, with what has been read so far.
    pub fn next(&mut self, input: &mut Buffer) -> Result<Step, Defect> {
        loop {
            match self.state {
                State::Done => return Ok(Step::End),
                State::Data { left: 0, chunked: false } => self.state = State::Done,
                State::Data { left: 0, chunked: true } => self.state = State::ChunkEnd,
                State::Data { left, chunked } => {
                    let data = left.min(input.unused().len() as u64);
                    if data == 0 {
                        return Ok(Step::More);
                    }
                    self.state = State::Data { left: left - data, chunked };
                    return Ok(Step::Data(data as usize));
                }
                State::UntilClose => {
                    return Ok(match input.unused().len() {
                        0 => Step::More,
                        data => Step::Data(data),
                    });
                }
                State::Size => match self.size(input)? {
                    None => return Ok(Step::More),
                    Some(0) => self.state = State::Trailers,
                    Some(left) => self.state = State::Data { left, chunked: true },
                },
                State::ChunkEnd => match input.unused() {
                    [b'\r', b'\n', ..] => {
                        input.consume(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Step::More),
                    _ => return Err(Defect::ChunkEnd),
                },
                State::Trailers => match self.take_trailers(input)? {
                    false => return Ok(Step::More),
                    true => self.state = State::Done,
                },
            }
        }
    }

    /// The stream has ended: is the body whole?
    pub fn end_of_stream(&mut self) -> Result<(), Defect> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Defect::Incomplete),
        }
    }

    /// A line `SIZE [extensions] CRLF`.
    fn size(&mut self, input: &mut Buffer) -> Result<Option<u64>, Defect> {
        let bytes = input.unused();
        let Some(line_feed) = memchr::memchr(b'\n', bytes) else {
            let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            return match bytes.len() {
                // Nonsense is refused without waiting for the end of its line.
                1.. if digits == 0 || digits > 16 => Err(Defect::ChunkSize),
                // The last byte may belong to the end of the line.
                read if read > MAX_SIZE_LINE + 1 => Err(Defect::ChunkExtension),
                _ => Ok(None),
            };
        };
        let line = bytes[..line_feed].strip_suffix(b"\r").ok_or(Defect::ChunkSize)?;
        if line.len() > MAX_SIZE_LINE {
            return Err(Defect::ChunkExtension);
        }
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        check_extensions(extensions)?;
        self.extensions += extensions.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(Defect::ChunkExtension);
        }
        // At most 16 digits: they cannot overflow 64 bits.
        let size = std::str::from_utf8(size).ok().filter(|size| size.len() <= 16);
        let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
        let size = size.ok_or(Defect::ChunkSize)?;
        input.consume(line_feed + 1);
        Ok(Some(size))
    }

    /// Lines of fields up to an empty one.
    fn take_trailers(&mut self, input: &mut Buffer) -> Result<bool, Defect> {
        let bytes = input.unused();
        if bytes.starts_with(b"\r\n") {
            input.consume(2);
            return Ok(true);
        }
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return match bytes.len() {
                MAX_TRAILERS.. => Err(Defect::TrailersTooLarge),
                // An end of bare line feeds would be waited for in vain.
                _ if has_bare_line_feed(bytes) => Err(Defect::Trailers),
                _ => Ok(false),
            };
        };
        let block = &bytes[..end + 4];
        if block.len() > MAX_TRAILERS {
            return Err(Defect::TrailersTooLarge);
        }
        if has_bare_line_feed(block) {
            return Err(Defect::Trailers);
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let fields = match httparse::parse_headers(block, &mut fields) {
            Ok(Status::Complete((length, fields))) if length == block.len() => fields,
            Err(httparse::Error::TooManyHeaders) => return Err(Defect::TrailersTooLarge),
            _ => return Err(Defect::Trailers),
        };
        for field in fields.iter().filter(|field| may_trail(field.name.as_bytes())) {
            for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
                self.trailers.extend_from_slice(part);
            }
        }
        let used = block.len();
        input.consume(used);
        Ok(true)
    }
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r')
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112, section 7.1.1).
/// They are dropped, but what is not an extension may be something else to another server.
fn check_extensions(mut rest: &[u8]) -> Result<(), Defect> {
    while !rest.is_empty() {
        rest = skip_space(rest).strip_prefix(b";").ok_or(Defect::ChunkSize)?;
        rest = skip_token(skip_space(rest)).ok_or(Defect::ChunkExtension)?;
        if let Some(value) = skip_space(rest).strip_prefix(b"=") {
            let value = skip_space(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => skip_quoted(quoted),
                None => skip_token(value),
            }
            .ok_or(Defect::ChunkExtension)?;
        }
    }
    Ok(())
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    let space = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[space..]
}

fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let token = |byte: &&u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let length = bytes.iter().take_while(token).count();
    (length > 0).then_some(&bytes[length..])
}

/// From behind the opening quote to behind the closing one.
fn skip_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn fill(buffer: &mut Buffer, mut bytes: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(buffer.poll_fill(&mut bytes, &mut cx), Poll::Ready(Ok(_))));
    }

    /// The data of a body that comes in pieces of `step` bytes, its trailers, and what is behind.
    fn decode(
        framing: Framing,
        text: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, String, Vec<u8>), Defect> {
        let (mut decoder, mut input) = (Decoder::new(framing), Buffer::default());
        let (mut data, mut pieces) = (Vec::new(), text.chunks(step));
        loop {
            match decoder.next(&mut input)? {
                Step::Data(bytes) => {
                    data.extend_from_slice(&input.unused()[..bytes]);
                    input.consume(bytes);
                }
                Step::More => match pieces.next() {
                    Some(piece) => fill(&mut input, piece),
                    None => decoder.end_of_stream()?,
                },
                Step::End => {
                    let trailers = String::from_utf8(decoder.trailers().to_vec()).unwrap();
                    let mut behind = input.unused().to_vec();
                    behind.extend(pieces.flatten());
                    return Ok((data, trailers, behind));
                }
            }
        }
    }

    fn chunked(text: &str) -> Result<(String, String, String), Defect> {
        let plain = |bytes| String::from_utf8(bytes).unwrap();
        let whole = decode(Framing::Chunked, text.as_bytes(), 4096);
        for step in [1, 2, 3, 7] {
            assert_eq!(
                decode(Framing::Chunked, text.as_bytes(), step),
                whole,
                "{text:?} by {step}"
            );
        }
        whole.map(|(data, trailers, behind)| (plain(data), trailers, plain(behind)))
    }

    #[test]
    fn every_framing_ends_where_it_should() {
        assert_eq!(decode(Framing::Length(3), b"abcdef", 2).unwrap().0, b"abc");
        assert_eq!(decode(Framing::Length(3), b"abcdef", 2).unwrap().2, b"def");
        assert_eq!(decode(Framing::Empty, b"abc", 2).unwrap().2, b"abc");
        assert_eq!(decode(Framing::UntilClose, b"abc", 2).unwrap().0, b"abc");
        assert_eq!(decode(Framing::Length(4), b"abc", 2), Err(Defect::Incomplete));
    }

    #[test]
    fn chunks_extensions_and_trailers() {
        let good = |text: &str, data: &str, trailers: &str, behind: &str| {
            let expected = (data.to_owned(), trailers.to_owned(), behind.to_owned());
            assert_eq!(chunked(text), Ok(expected), "{text:?}");
        };
        good("0\r\n\r\nnext", "", "", "next");
        good("5\r\nhello\r\nA;x\r\n0123456789\r\n000\r\n\r\n", "hello0123456789", "", "");
        good("1 ; a=b ;c = \"d;\\\"e\" \t;f\r\nx\r\n0;g\r\n\r\n", "x", "", "");
        good(
            "0\r\nX-Sum: 7\r\nHost: a\r\ncontent-length: 1\r\nvia: x\r\nB:\r\n\r\n!",
            "",
            "X-Sum: 7\r\nB: \r\n",
            "!",
        );
    }

    #[test]
    fn malformed_chunks() {
        let cases = [
            ("x\r\n", Defect::ChunkSize),
            ("\r\n", Defect::ChunkSize),
            ("0x5\r\nhello\r\n", Defect::ChunkSize),
            ("-1\r\n", Defect::ChunkSize),
            (" 5\r\nhello\r\n", Defect::ChunkSize),
            ("5 \r\nhello\r\n", Defect::ChunkSize),
            ("5\nhello\r\n", Defect::ChunkSize),
            ("10000000000000000\r\n", Defect::ChunkSize),
            ("5;\r\nhello\r\n", Defect::ChunkExtension),
            ("5;a=\r\nhello\r\n", Defect::ChunkExtension),
            ("5;a=\"b\r\nhello\r\n", Defect::ChunkExtension),
            ("5;a\0b\r\nhello\r\n", Defect::ChunkSize),
            ("5;a=\"\0\"\r\nhello\r\n", Defect::ChunkExtension),
            ("5\r\nhelloX\r\n", Defect::ChunkEnd),
            ("5\r\nhello\n", Defect::ChunkEnd),
            ("0\r\nbad name: x\r\n\r\n", Defect::Trailers),
            ("0\r\nx: y\n\r\n", Defect::Trailers),
            ("0\r\n x: y\r\n\r\n", Defect::Trailers),
            ("5\r\nhel", Defect::Incomplete),
            ("5\r\nhello\r\n", Defect::Incomplete),
            ("0\r\n", Defect::Incomplete),
        ];
        for (text, defect) in cases {
            assert_eq!(chunked(text), Err(defect), "{text:?}");
        }
    }

    #[test]
    fn everything_has_a_bound() {
        let longest = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(MAX_SIZE_LINE - 2));
        assert!(chunked(&longest).is_ok());
        let long = format!("1;{}\r\n", "a".repeat(MAX_SIZE_LINE - 1));
        assert_eq!(chunked(&long), Err(Defect::ChunkExtension));
        let endless = format!("1;{}", "a".repeat(MAX_SIZE_LINE));
        assert_eq!(chunked(&endless), Err(Defect::ChunkExtension));
        let many = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(20);
        assert_eq!(chunked(&many), Err(Defect::ChunkExtension));
        let long = format!("0\r\nx: {}\r\n\r\n", "y".repeat(MAX_TRAILERS));
        assert_eq!(chunked(&long), Err(Defect::TrailersTooLarge));
        let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS + 1));
        assert_eq!(chunked(&many), Err(Defect::TrailersTooLarge));
    }
}
