//! Heads, parsed by httparse and then held to the letter.
//!
//! httparse takes a bare line feed for the end of a line, which servers disagree about; what it
//! takes beyond that is a matter of the target, which is judged in [`super::target`]. A head is
//! parsed where a line ends, of which there are few, and inside a long line only now and then: so
//! nonsense is refused early, and a head that comes byte by byte does not cost the square of its
//! length.

use std::mem::MaybeUninit;

use httparse::Status;

use super::defect::Defect;
use super::fields::{Field, Fields, Kind, List, Span};

/// Largest head, in bytes and in fields (RFC 9110, section 5.4).
pub const MAX_HEAD: usize = 64 << 10;
pub const MAX_FIELDS: usize = 100;
/// Most bytes of blank lines before it: old clients send one line behind a body.
pub const MAX_BLANK: usize = 32;
/// Longest target of a request.
pub const MAX_TARGET: usize = 8 << 10;
/// What a quiet connection keeps for its next heads, in bytes and in fields.
const QUIET: (usize, usize) = (1 << 10, 32);

/// The head of a request: its bytes, and what lies where in them. Its memory is reused from one
/// request of a connection to the next; its bytes are its own, so that the body can be read over
/// where they came from.
#[derive(Debug, Default)]
pub struct RequestHead {
    bytes: Vec<u8>,
    method: Span,
    target: Span,
    minor: u8,
    fields: List,
}

/// The head of an answer, likewise.
#[derive(Debug, Default)]
pub struct ResponseHead {
    bytes: Vec<u8>,
    status: u16,
    reason: Span,
    minor: u8,
    fields: List,
}

/// When a head that is not whole is parsed again.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that are part of the head for sure: its end has been looked for in them.
    searched: usize,
    /// Bytes from which on to parse even inside a line.
    next_try: usize,
}

impl Progress {
    /// Whether it is worth parsing what is there now: where a line ends it is known what is wrong
    /// with it, and whether the head is whole.
    fn worth_a_try(&mut self, bytes: &[u8]) -> bool {
        let from = self.searched.saturating_sub(1);
        let line_ends = memchr::memchr2(b'\r', b'\n', &bytes[from..]).is_some();
        if !line_ends && bytes.len() < self.next_try {
            return false;
        }
        self.next_try = bytes.len() * 2;
        true
    }

    /// Waits for more, unless that would be too much, or in vain: what ends in bare line feeds
    /// has no end to us.
    fn wait(&mut self, bytes: &[u8], request: bool) -> Result<Option<usize>, Defect> {
        check_line_ends(bytes, self.searched)?;
        check_size(bytes, request)?;
        self.searched = bytes.len();
        if bytes.len() == MAX_HEAD { Err(Defect::HeadTooLarge) } else { Ok(None) }
    }
}

impl RequestHead {
    /// Parses a request from its first byte on. The value is the length of the head, `None`
    /// while it is not whole.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        progress: &mut Progress,
    ) -> Result<Option<usize>, Defect> {
        if !progress.worth_a_try(bytes) {
            return progress.wait(bytes, true);
        }
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, &mut fields) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return progress.wait(bytes, true),
            Err(httparse::Error::Version) if !speaks_http(bytes) => return Err(Defect::Head),
            Err(error) => return Err(defect(error)),
        };
        check_size(&bytes[..length], true)?;
        check_line_ends(&bytes[..length], 0)?;
        self.method = Span::of(request.method.unwrap_or_default().as_bytes(), bytes);
        self.target = Span::of(request.path.unwrap_or_default().as_bytes(), bytes);
        self.minor = request.version.unwrap_or_default();
        take_fields(&mut self.fields, request.headers, bytes);
        take_bytes(&mut self.bytes, &bytes[..length]);
        Ok(Some(length))
    }

    /// Forgets the head that was parsed last, and gives memory back that only a large one needed.
    pub fn shrink(&mut self) {
        forget(&mut self.bytes, &mut self.fields);
    }

    /// The head that was parsed last.
    pub fn view(&self) -> Request<'_> {
        let text = |span: Span| std::str::from_utf8(&self.bytes[span.range()]).unwrap_or_default();
        Request {
            method: text(self.method),
            target: text(self.target),
            http10: self.minor == 0,
            fields: self.fields.view(&self.bytes),
        }
    }
}

impl ResponseHead {
    /// As [`RequestHead::parse`].
    pub fn parse(
        &mut self,
        bytes: &[u8],
        progress: &mut Progress,
    ) -> Result<Option<usize>, Defect> {
        if !progress.worth_a_try(bytes) {
            return progress.wait(bytes, false);
        }
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
        let length = match parsed {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return progress.wait(bytes, false),
            Err(error) => return Err(defect(error)),
        };
        check_size(&bytes[..length], false)?;
        check_line_ends(&bytes[..length], 0)?;
        self.status = response.code.filter(|code| *code >= 100).ok_or(Defect::Head)?;
        self.minor = response.version.unwrap_or_default();
        // httparse gives an empty text of its own for a reason that it cannot give as text.
        self.reason = match response.reason {
            Some(reason) if !reason.is_empty() => Span::of(reason.as_bytes(), bytes),
            _ => Span::default(),
        };
        take_fields(&mut self.fields, response.headers, bytes);
        take_bytes(&mut self.bytes, &bytes[..length]);
        Ok(Some(length))
    }

    /// As [`RequestHead::shrink`].
    pub fn shrink(&mut self) {
        forget(&mut self.bytes, &mut self.fields);
    }

    /// The head that was parsed last.
    pub fn view(&self) -> Response<'_> {
        Response {
            status: self.status,
            reason: &self.bytes[self.reason.range()],
            http10: self.minor == 0,
            fields: self.fields.view(&self.bytes),
        }
    }
}

/// A request head to read from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub http10: bool,
    pub fields: Fields<'a>,
}

/// An answer's head to read from.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    pub http10: bool,
    pub fields: Fields<'a>,
}

fn take_fields(into: &mut List, parsed: &[httparse::Header<'_>], bytes: &[u8]) {
    into.clear();
    for header in parsed {
        into.push(Field {
            kind: Kind::of(header.name.as_bytes()),
            name: Span::of(header.name.as_bytes(), bytes),
            value: Span::of(header.value, bytes),
        });
    }
}

fn take_bytes(into: &mut Vec<u8>, head: &[u8]) {
    into.clear();
    into.extend_from_slice(head);
}

fn forget(bytes: &mut Vec<u8>, fields: &mut List) {
    bytes.clear();
    bytes.shrink_to(QUIET.0);
    fields.clear();
    fields.shrink_to(QUIET.1);
}

/// A head is as large in one piece as in many: the same is refused, whole or not.
fn check_size(bytes: &[u8], request: bool) -> Result<(), Defect> {
    let lead = bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    if lead > MAX_BLANK {
        return Err(Defect::Head);
    }
    let line = memchr::memchr(b'\n', &bytes[lead..]).unwrap_or(bytes.len() - lead);
    // A method is a few bytes; what makes a line long is its target.
    if request && line > MAX_TARGET + 256 {
        return Err(Defect::TargetTooLong);
    }
    if bytes.len() > MAX_HEAD {
        return Err(Defect::HeadTooLarge);
    }
    Ok(())
}

fn check_line_ends(head: &[u8], from: usize) -> Result<(), Defect> {
    let bare = |at: usize| from + at == 0 || head[from + at - 1] != b'\r';
    match memchr::memchr_iter(b'\n', &head[from..]).any(bare) {
        true => Err(Defect::BareLineFeed),
        false => Ok(()),
    }
}

/// Whether some version of HTTP stands where the version belongs.
fn speaks_http(bytes: &[u8]) -> bool {
    let mut parts = bytes.trim_ascii_start().split(|byte| *byte == b' ');
    parts.nth(2).is_some_and(|version| version.starts_with(b"HTTP/"))
}

fn defect(error: httparse::Error) -> Defect {
    match error {
        httparse::Error::TooManyHeaders => Defect::TooManyFields,
        httparse::Error::Version => Defect::Version,
        _ => Defect::Head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a request that comes in pieces of `step` bytes, and then no more.
    fn parse(text: &str, step: usize) -> Result<Option<usize>, Defect> {
        let (mut head, mut progress) = (RequestHead::default(), Progress::default());
        let mut parsed = Ok(None);
        for end in (step..text.len()).step_by(step).chain([text.len()]) {
            parsed = head.parse(&text.as_bytes()[..end], &mut progress);
            if parsed != Ok(None) {
                break;
            }
        }
        parsed
    }

    #[test]
    fn pieces_make_no_difference() {
        let long = |bytes| "a".repeat(bytes);
        let whole = |text: &str| Ok(Some(text.len()));
        let request = "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", long(MAX_HEAD - 23));
        let too_large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", long(MAX_HEAD - 22));
        let method = format!("{} / HTTP/1.1\r\n\r\n", long(MAX_TARGET + 256));
        let blank = format!("{}{request}", "\r\n".repeat(MAX_BLANK / 2));
        let cases = [
            (request, whole(request)),
            (&request[..request.len() - 1], Ok(None)),
            (&large, whole(&large)),
            (&too_large, Err(Defect::HeadTooLarge)),
            (&method, Err(Defect::TargetTooLong)),
            (&blank, Err(Defect::Head)),
            ("GET / HTTP/1.1\nHost: a\n\n", Err(Defect::BareLineFeed)),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Err(Defect::BareLineFeed)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\rX", Err(Defect::Head)),
            ("GET / HTTP/1.1\r\nHost : a\r\n", Err(Defect::Head)),
            ("GET /\r\n", Err(Defect::Head)),
            ("GET /a b HTTP/1.1\r\n", Err(Defect::Head)),
            ("GET /  HTTP/1.1\r\n", Err(Defect::Head)),
            ("GET / HTTP/2\r\n", Err(Defect::Version)),
        ];
        for (text, expected) in cases {
            for step in [1, 7, MAX_HEAD + 1] {
                assert_eq!(parse(text, step), expected, "{text:.30} by {step}");
            }
        }
    }
}
