//! The decoder of bodies alone, with bodies of every framing in pieces of every length.
//!
//! The first byte says how the body is delimited: `C`, by chunks; `L`, by a length (of so many
//! bytes as the next byte has); `U`, by the close. The next four are the lengths of the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::codec::{BodyEnd, Input};
use outrigger_fuzz::message::{Message, Text};
use outrigger_fuzz::proxy::http::h1::framing::Framing;

fuzz_target!(|bytes: &[u8]| {
    let [kind, a, b, c, d, bytes @ ..] = bytes else { return };
    let framing = match kind & 3 {
        0 => Framing::Length(u64::from(*a)),
        1 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let whole = decode(framing, bytes, &[]);
    let pieces = decode(framing, bytes, &[*a, *b, *c, *d]);
    assert_eq!(pieces.verdict(), whole.verdict(), "in pieces: {pieces:#?}, not {whole:#?}");
    match whole.end {
        Ok(()) => check_whole(framing, bytes, &whole),
        Err(end) => check_broken(framing, bytes, end),
    }
});

#[derive(Debug)]
struct Decoded {
    body: Message,
    end: Result<(), BodyEnd>,
    rest: Text,
}

impl Decoded {
    /// What does not depend on pieces: what is wrong with a body may be found out earlier.
    fn verdict(&self) -> (&Message, Result<&Text, bool>) {
        let closed = |end| end == BodyEnd::Closed;
        (&self.body, self.end.map(|()| &self.rest).map_err(closed))
    }
}

fn decode(framing: Framing, bytes: &[u8], pieces: &[u8]) -> Decoded {
    let mut input = Input::new(bytes, pieces);
    let mut body = Message::default();
    let end = input.body(framing, &mut body);
    Decoded { body, end, rest: input.rest() }
}

/// A whole body ends where it says, and means the same when it is encoded anew.
fn check_whole(framing: Framing, bytes: &[u8], decoded: &Decoded) {
    let Decoded { body, rest, .. } = decoded;
    assert!(bytes.ends_with(&rest.0));
    let used = bytes.len() - rest.0.len();
    match framing {
        Framing::Chunked => assert!(body.body.0.len() + 5 <= used),
        Framing::Length(length) => assert_eq!(used as u64, length),
        _ => assert_eq!(used, bytes.len()),
    }
    if framing == Framing::Chunked {
        let alone = decode(framing, &bytes[..used], &[]);
        assert_eq!((&alone.body, alone.end), (body, Ok(())));
        let short = decode(framing, &bytes[..used - 1], &[]);
        assert_eq!(short.end, Err(BodyEnd::Closed), "it ends before its end");
    } else {
        assert_eq!(body.body.0, bytes[..used]);
    }
    let again = encode(body, bytes.len());
    let again = decode(Framing::Chunked, &again, &[]);
    assert_eq!((&again.body, again.end), (body, Ok(())));
}

fn check_broken(framing: Framing, bytes: &[u8], end: BodyEnd) {
    match (framing, end) {
        (Framing::Length(length), BodyEnd::Closed) => assert!((bytes.len() as u64) < length),
        (Framing::Chunked, _) => {}
        _ => panic!("{framing:?} cannot end in {end:?}"),
    }
}

/// In chunks of lengths that depend on `seed`, with its trailers.
fn encode(body: &Message, seed: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for chunk in body.body.0.chunks(1 + seed % 41) {
        text.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
        text.extend_from_slice(chunk);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0;a=\"b\"\r\n");
    for (name, value) in body.trailers.iter() {
        text.extend_from_slice(&[name.as_bytes(), b":", value, b"\r\n"].concat());
    }
    text.extend_from_slice(b"\r\n");
    text
}
