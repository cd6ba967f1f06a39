//! Where the codec and hyper are meant to differ: the whole list. Any other difference is a bug of
//! one of them.
//!
//! Whether a difference applies is read from the message and from our defect, never from what
//! hyper made of it.

use crate::codec::{Answer, Refused, Stage};
use crate::message::{Head, Message};
use crate::proxy::http::h1::defect::Defect;
use crate::proxy::http::h1::head::{MAX_BLANK, MAX_HEAD, MAX_TARGET};

/// What we refuse and hyper takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stricter {
    /// A line that ends in a bare line feed. A recipient may take it (RFC 9112, section 2.2), but
    /// not all do.
    BareLineFeed,
    /// Longer than our limits; hyper's are larger.
    TooLarge,
    /// CONNECT and TRACE: hyper leaves it to the service whether it serves them.
    Method,
    /// A target that is neither a path nor an absolute URI of http or https; hyper knows any
    /// scheme, and takes `*` for any method.
    TargetForm,
    /// A backslash, `%00`, a fragment, or bytes above ASCII in a target. hyper cuts the fragment
    /// off and takes the rest.
    TargetCharacters,
    /// No Host, several, or one that is no host; hyper does not look at it.
    Host,
    /// Content-Length more than once, which hyper takes if all are equal.
    SeveralLengths,
    /// An answer's Content-Length that is a list; hyper takes it if all members are equal.
    ListOfLengths,
    /// Both Content-Length and Transfer-Encoding. hyper drops the length and, after a request,
    /// the connection.
    LengthAndCoding,
    /// Transfer-Encoding more than once, or not exactly `chunked`. hyper wants the last one to be
    /// `chunked`, and takes an answer where it is not up to the close.
    Coding,
    /// An answer that has no body, whatever its fields say of one. hyper does not look at them.
    FramingOfNothing,
    /// `Expect` with anything but `100-continue`.
    Expectation,
    /// Space between a chunk's size and the end of the line, or more digits than 64 bits have;
    /// hyper skips the space, and counts what the digits are worth.
    ChunkSize,
    /// Chunk extensions that are none; hyper skips anything up to the end of the line.
    ChunkExtension,
    /// Trailers with lines that end in a bare line feed.
    Trailers,
    /// A switch of protocols that nobody asked for; hyper leaves it to whoever sent the request.
    Switch,
    /// Nothing but empty lines before the close: half a head to us, nothing to hyper. Or more of
    /// them before a head than we skip; hyper skips any number.
    EmptyLines,
    /// More interim answers than we are ready to pass on; hyper drops any number of them.
    Interims,
}

impl Stricter {
    /// Why it is right to refuse a request that hyper takes.
    pub fn of_request(refused: &Refused) -> Option<Self> {
        match &refused.stage {
            Stage::Nothing => in_bytes(refused.defect, &refused.rest.0),
            Stage::Head(head) => in_request_head(refused.defect, head),
            Stage::Body(_) => in_body(refused.defect, &refused.rest.0),
        }
    }

    /// Why it is right to refuse a request where hyper sees none.
    pub fn of_no_request(refused: &Refused) -> Option<Self> {
        let empty = empty_lines(&refused.rest.0) == refused.rest.0.len();
        (refused.stage == Stage::Nothing && empty).then_some(Self::EmptyLines)
    }

    /// Why it is right to refuse an answer that hyper takes; `head` is what hyper read of it.
    pub fn of_answer(defect: Defect, answer: &Answer, head: &Head, to_head: bool) -> Option<Self> {
        if answer.message.is_some() {
            return in_body(defect, &answer.rest.0);
        }
        let bodiless = to_head || matches!(head.first.as_str(), "204" | "304");
        match defect {
            Defect::Switch => (head.first == "101").then_some(Self::Switch),
            Defect::TooManyInterims => Some(Self::Interims),
            Defect::LengthInvalid | Defect::CodingBeforeHttp11 if bodiless => {
                Some(Self::FramingOfNothing)
            }
            Defect::LengthInvalid => head
                .fields
                .values("content-length")
                .any(|length| length.contains(&b','))
                .then_some(Self::ListOfLengths),
            _ => in_bytes(defect, &answer.rest.0).or_else(|| in_framing(defect, head)),
        }
    }
}

/// In a head that was not understood.
fn in_bytes(defect: Defect, rest: &[u8]) -> Option<Stricter> {
    match defect {
        Defect::Head => (empty_lines(rest) > MAX_BLANK).then_some(Stricter::EmptyLines),
        Defect::BareLineFeed => has_bare_line_feed(rest).then_some(Stricter::BareLineFeed),
        Defect::HeadTooLarge => (rest.len() >= MAX_HEAD).then_some(Stricter::TooLarge),
        Defect::TargetTooLong => (rest.len() > MAX_TARGET).then_some(Stricter::TooLarge),
        _ => None,
    }
}

fn in_request_head(defect: Defect, head: &Head) -> Option<Stricter> {
    let target = head.second.as_str();
    match defect {
        Defect::Method => {
            matches!(head.first.as_str(), "CONNECT" | "TRACE").then_some(Stricter::Method)
        }
        Defect::TargetTooLong => (target.len() > MAX_TARGET).then_some(Stricter::TooLarge),
        Defect::TargetForm => (!target.starts_with('/')).then_some(Stricter::TargetForm),
        Defect::TargetCharacters => {
            let odd = |c: char| matches!(c, '\\' | '#') || !c.is_ascii_graphic();
            let odd = target.contains(odd) || target.contains("%00");
            odd.then_some(Stricter::TargetCharacters)
        }
        Defect::NoHost => (head.fields.count("host") == 0).then_some(Stricter::Host),
        Defect::SeveralHosts => (head.fields.count("host") > 1).then_some(Stricter::Host),
        Defect::Host => (!has_plain_host(head)).then_some(Stricter::Host),
        Defect::Expectation => {
            let odd = |value: &[u8]| !value.eq_ignore_ascii_case(b"100-continue");
            head.fields.values("expect").any(odd).then_some(Stricter::Expectation)
        }
        _ => in_framing(defect, head),
    }
}

fn in_framing(defect: Defect, head: &Head) -> Option<Stricter> {
    let lengths = head.fields.count("content-length");
    let mut codings = head.fields.values("transfer-encoding");
    match defect {
        Defect::SeveralLengths => (lengths > 1).then_some(Stricter::SeveralLengths),
        // hyper has dropped the length.
        Defect::LengthAndCoding => (codings.count() > 0).then_some(Stricter::LengthAndCoding),
        Defect::SeveralCodings => (codings.count() > 1).then_some(Stricter::Coding),
        Defect::CodingNotChunked | Defect::CodingUnknown => codings
            .any(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
            .then_some(Stricter::Coding),
        _ => None,
    }
}

/// In a body, from where it was not understood on.
fn in_body(defect: Defect, rest: &[u8]) -> Option<Stricter> {
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let after = line.get(digits);
    match defect {
        Defect::ChunkSize => {
            let odd = digits > 16 || matches!(after, Some(b' ' | b'\t' | b';'));
            odd.then_some(Stricter::ChunkSize)
        }
        Defect::ChunkExtension => line.contains(&b';').then_some(Stricter::ChunkExtension),
        Defect::Trailers => has_bare_line_feed(rest).then_some(Stricter::Trailers),
        _ => None,
    }
}

/// What we take and hyper refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Laxer {
    /// Characters in a target that a URI should have encoded. Clients send them as they are, and
    /// no server takes them for anything else.
    TargetCharacters,
}

impl Laxer {
    /// Why it is right to serve a request that hyper refuses.
    pub fn of_request(message: &Message) -> Option<Self> {
        message.head.second.contains(UNENCODED).then_some(Self::TargetCharacters)
    }
}

/// What the `http` crate refuses in a path or in a query.
pub const UNENCODED: [char; 4] = ['"', '<', '>', '`'];

/// What both refuse, and hyper earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    /// A line between chunks or the trailers, which are judged once they are whole.
    Line,
}

impl Later {
    /// Why it is right to wait for more of an answer that hyper refuses.
    pub fn of_answer(answer: &Answer) -> Option<Self> {
        (answer.message.is_some() && !answer.rest.0.is_empty()).then_some(Self::Line)
    }
}

/// What both take and do not take for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Different {
    /// OPTIONS of an absolute target without a path, which is about the whole server (RFC 9112,
    /// section 3.2.4): `*` to us, `/` to hyper.
    WholeServer,
    /// `Connection` with bytes above ASCII, of which hyper takes no notice, whatever else it says.
    Connection,
}

impl Different {
    pub fn of_request(ours: &Message, theirs: &Message) -> Option<Self> {
        let whole = ours.head.second.strip_suffix('*')?;
        let mut same = theirs.clone();
        same.head.second = format!("{whole}*");
        let differs = theirs.head.second == format!("{whole}/") && same == *ours;
        (differs && ours.head.first == "OPTIONS").then_some(Self::WholeServer)
    }

    /// Whether the connection goes on after a message.
    pub fn of_connection(head: &Head) -> Option<Self> {
        let odd = head.fields.values("connection").any(|value| !value.is_ascii());
        odd.then_some(Self::Connection)
    }
}

/// Whether nothing can be said against the host of a request.
fn has_plain_host(head: &Head) -> bool {
    let plain = |host: &[u8]| {
        !host.is_empty() && host.iter().all(|b| b.is_ascii_alphanumeric() || b".-".contains(b))
    };
    let absolute = head.second.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next());
    let named = absolute.flatten().map(str::as_bytes);
    head.fields.count("host") == 1 && head.fields.values("host").chain(named).all(plain)
}

/// Bytes of empty lines before anything else.
fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| b"\r\n".contains(byte)).count()
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes[at - 1] != b'\r')
}
