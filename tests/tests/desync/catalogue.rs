//! Every request that is refused: what is wrong with it, and what is answered.
//!
//! The status is what the RFCs ask for; the defect, by its name in the sidecar's own table, shows
//! that it is refused for the right reason. Of heads this is the whole table; what is wrong with
//! the body, or with what the head says of it, is in [`framing`](mod@crate::framing).

use crate::case::{Case, ID, Verdict};
use crate::framing::{SMUGGLED, chunks, expectations, framing};

/// In no head and no body, but in time or in an end that does not come: see
/// `http/timeouts.rs`, `hostile/slow.rs` and `http/gone.rs`.
const OF_TIME: [&str; 4] = ["HeadTimeout", "BodyIdle", "BodyTooSlow", "Incomplete"];
/// Those that only an answer can have: see `answers.rs` and `http/upgrade.rs`.
const OF_ANSWERS: [&str; 2] = ["TooManyInterims", "Switch"];

pub fn refused() -> Vec<Case> {
    [request_lines(), targets(), fields(), line_ends(), sizes(), hosts(), framing(), expectations()]
        .into_iter()
        .flatten()
        .map(|(what, bytes, status, defect)| case(what, bytes, status, defect, false))
        .chain(chunks().into_iter().map(|(what, body, status, defect)| {
            let head = format!("POST /{ID} HTTP/1.1\r\nHost: a\r\nX-Id: {ID}\r\n");
            let bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n{body}");
            case(what, bytes.into_bytes(), status, defect, true)
        }))
        .collect()
}

fn case(what: &str, bytes: Vec<u8>, status: u16, defect: &'static str, in_body: bool) -> Case {
    let verdict = Verdict::Refused { status, defect, in_body };
    Case { what: format!("{what} ({defect})"), bytes, verdict }
}

/// What it is, the request, the status of the answer, and the defect.
pub type Row = (&'static str, Vec<u8>, u16, &'static str);

/// A request of this line, which is good otherwise.
fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), format!("\r\nHost: a\r\nX-Id: {ID}\r\n\r\n").as_bytes()].concat()
}

/// A GET with these lines in its head, but for Host.
pub fn with(fields: impl AsRef<[u8]>) -> Vec<u8> {
    let start = format!("GET / HTTP/1.1\r\nX-Id: {ID}\r\n");
    [start.as_bytes(), fields.as_ref(), b"\r\n"].concat()
}

fn request_lines() -> Vec<Row> {
    let long_method = format!("{} / HTTP/1.1", "M".repeat(40 << 10));
    vec![
        ("tab behind the method", line("GET\t/ HTTP/1.1"), 400, "Head"),
        ("tab before the version", line("GET /\tHTTP/1.1"), 400, "Head"),
        ("two spaces behind the method", line("GET  / HTTP/1.1"), 400, "Head"),
        ("two spaces before the version", line("GET /  HTTP/1.1"), 400, "Head"),
        ("space behind the version", line("GET / HTTP/1.1 "), 400, "Head"),
        ("space before the method", line(" GET / HTTP/1.1"), 400, "Head"),
        ("space in the target", line("GET /a b HTTP/1.1"), 400, "Head"),
        ("no target", line("GET HTTP/1.1"), 400, "Head"),
        ("nothing but a method", line("GET"), 400, "Head"),
        ("no method", line("/ HTTP/1.1"), 400, "Head"),
        ("HTTP/0.9", b"GET /\r\n".to_vec(), 400, "Head"),
        ("HTTP/0.9 by name", line("GET / HTTP/0.9"), 505, "Version"),
        ("HTTP/1.2", line("GET / HTTP/1.2"), 505, "Version"),
        ("HTTP/2.0", line("GET / HTTP/2.0"), 505, "Version"),
        ("HTTP/3", line("GET / HTTP/3"), 505, "Version"),
        ("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505, "Version"),
        ("HTTP/1.10", line("GET / HTTP/1.10"), 400, "Head"),
        ("version in lower case", line("GET / http/1.1"), 400, "Head"),
        ("another protocol", line("GET / ICY/1.1"), 400, "Head"),
        ("NUL in the method", line("GE\0T / HTTP/1.1"), 400, "Head"),
        ("non-ASCII method", line("G\u{c9}T / HTTP/1.1"), 400, "Head"),
        ("separator in the method", line("GET(x) / HTTP/1.1"), 400, "Head"),
        ("long method", line(long_method), 414, "TargetTooLong"),
        ("CONNECT", line("CONNECT a:80 HTTP/1.1"), 405, "Method"),
        ("CONNECT to a path", line("CONNECT / HTTP/1.1"), 405, "Method"),
        ("TRACE", line("TRACE / HTTP/1.1"), 405, "Method"),
        ("a greeting of TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), 400, "Head"),
        ("an answer", line("HTTP/1.1 200 OK"), 400, "Head"),
    ]
}

fn targets() -> Vec<Row> {
    let get = |target: &str| line(format!("GET {target} HTTP/1.1"));
    let long = |length: usize| get(&format!("/{}", "a".repeat(length)));
    vec![
        ("fragment", get("/a#b"), 400, "TargetCharacters"),
        ("empty fragment", get("/#"), 400, "TargetCharacters"),
        ("fragment of an absolute target", get("http://a#@b/"), 400, "TargetCharacters"),
        ("%00", get("/a%00b"), 400, "TargetCharacters"),
        ("%00 in the query", get("/a?b%00"), 400, "TargetCharacters"),
        ("backslash", get("/a\\b"), 400, "TargetCharacters"),
        ("backslash in the authority", get("http://a\\b/"), 400, "TargetCharacters"),
        ("non-ASCII target", get("/\u{e9}"), 400, "TargetCharacters"),
        ("target that is not UTF-8", line(b"GET /\xe9 HTTP/1.1"), 400, "Head"),
        ("NUL in the target", get("/a\0b"), 400, "Head"),
        ("DEL in the target", get("/a\x7fb"), 400, "Head"),
        ("vertical tab in the target", get("/a\x0bb"), 400, "Head"),
        ("target without a slash", get("a"), 400, "TargetForm"),
        ("target that starts with its query", get("?a"), 400, "TargetForm"),
        ("star with GET", get("*"), 400, "TargetForm"),
        ("star and more", line("OPTIONS *a HTTP/1.1"), 400, "TargetForm"),
        ("scheme that is not http", get("ftp://a/"), 400, "TargetForm"),
        ("scheme with one slash", get("http:/a"), 400, "TargetForm"),
        ("authority form", get("a:80"), 400, "TargetForm"),
        ("absolute target without a host", get("http:///a"), 400, "Host"),
        ("absolute target with nothing but a port", get("http://:80/"), 400, "Host"),
        ("absolute target with userinfo", get("http://u:p@a/"), 400, "Host"),
        ("absolute target with a bad port", get("http://a:b/"), 400, "Host"),
        ("absolute target with two hosts", get("http://a,b/"), 400, "Host"),
        ("absolute target with half an address", get("http://[::1/"), 400, "Host"),
        ("dots with a parameter", get("/a/..;/b"), 400, "DotSegments"),
        ("encoded dots with a parameter", get("/a/%2e%2E;x=y/b"), 400, "DotSegments"),
        ("target of 9 KiB", long(9 << 10), 414, "TargetTooLong"),
        ("target of 70 KiB", long(70 << 10), 414, "TargetTooLong"),
    ]
}

fn fields() -> Vec<Row> {
    let and = |line: &[u8]| with([b"Host: a\r\n", line, b"\r\n"].concat());
    let upload = |line: &str, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nX-Id: {ID}\r\nHost: a\r\n{line}\r\n\r\n");
        format!("{head}{body}{SMUGGLED}").into_bytes()
    };
    vec![
        ("space before the colon", and(b"X : y"), 400, "Head"),
        ("tab before the colon", and(b"X\t: y"), 400, "Head"),
        ("Host with a space before the colon", with("Host : a\r\n"), 400, "Head"),
        ("length with a space", upload("Content-Length : 5", "hello"), 400, "Head"),
        ("coding with a space", upload("Transfer-Encoding : chunked", "0\r\n\r\n"), 400, "Head"),
        ("empty name", and(b": y"), 400, "Head"),
        ("nothing but a colon", and(b":"), 400, "Head"),
        ("no colon", and(b"X"), 400, "Head"),
        ("space in a name", and(b"X Y: z"), 400, "Head"),
        ("NUL in a name", and(b"X\0: y"), 400, "Head"),
        ("non-ASCII name", and(b"\xc3\xa9: y"), 400, "Head"),
        ("quote in a name", and(b"\"X\": y"), 400, "Head"),
        ("folded line", and(b"X: y\r\n z"), 400, "Head"),
        ("line folded with a tab", and(b"X: y\r\n\tz"), 400, "Head"),
        ("folded coding", upload("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), 400, "Head"),
        ("folded length", upload("Content-Length:\r\n 5", "hello"), 400, "Head"),
        ("fold of the request line", line("GET / HTTP/1.1\r\n X: y"), 400, "Head"),
        ("NUL in a value", and(b"X: y\0z"), 400, "Head"),
        ("control byte in a value", and(b"X: y\x01z"), 400, "Head"),
        ("DEL in a value", and(b"X: y\x7f"), 400, "Head"),
        (
            "vertical tab before the coding",
            upload("Transfer-Encoding: \x0bchunked", ""),
            400,
            "Head",
        ),
        (
            "vertical tab behind the coding",
            upload("Transfer-Encoding: chunked\x0b", ""),
            400,
            "Head",
        ),
    ]
}

fn line_ends() -> Vec<Row> {
    let plain = format!("GET / HTTP/1.1\r\nX-Id: {ID}\r\nHost: a\r\n\r\n");
    // In turn each carriage return away, and each line feed.
    let without = |end: &str, nth: usize, short: &str| {
        let (at, _) = plain.match_indices(end).nth(nth).unwrap();
        let (before, behind) = plain.split_at(at);
        format!("{before}{short}{}", &behind[end.len()..]).into_bytes()
    };
    let lone_feed = |nth| without("\r\n", nth, "\n");
    let lone_return = |nth| without("\r\n", nth, "\r");
    vec![
        ("bare LF behind the request line", lone_feed(0), 400, "BareLineFeed"),
        ("bare LF behind the first field", lone_feed(1), 400, "BareLineFeed"),
        ("bare LF behind the last field", lone_feed(2), 400, "BareLineFeed"),
        ("bare LF at the end", lone_feed(3), 400, "BareLineFeed"),
        ("bare LF everywhere", plain.replace('\r', "").into_bytes(), 400, "BareLineFeed"),
        ("bare LF before the request", format!("\n{plain}").into_bytes(), 400, "BareLineFeed"),
        ("bare CR behind the request line", lone_return(0), 400, "Head"),
        ("bare CR behind the first field", lone_return(1), 400, "Head"),
        ("bare CR behind the last field", lone_return(2), 400, "Head"),
        ("bare CR at the end", [lone_return(3), b"X".to_vec()].concat(), 400, "Head"),
        ("bare CR everywhere", plain.replace('\n', "").into_bytes(), 400, "Head"),
        (
            "many blank lines before",
            format!("{}{plain}", "\r\n".repeat(20)).into_bytes(),
            400,
            "Head",
        ),
        ("bare CR before the request", format!("\r{plain}").into_bytes(), 400, "Head"),
        ("bare CR in a value", with("Host: a\r\nX: y\rz\r\n"), 400, "Head"),
        ("two CR", without("\r\n", 1, "\r\r\n"), 400, "Head"),
    ]
}

fn sizes() -> Vec<Row> {
    let and = |fields: String| with(format!("Host: a\r\n{fields}"));
    let fields = |count: usize, value: &str| {
        let fields = (0..count).map(|i| format!("x-{i}: {value}\r\n"));
        and(fields.collect())
    };
    vec![
        ("200 fields", fields(200, "y"), 431, "TooManyFields"),
        ("10,000 fields", fields(10_000, "y"), 431, "TooManyFields"),
        ("field of 100 KiB", fields(1, &"y".repeat(100 << 10)), 431, "HeadTooLarge"),
        ("head of 80 KiB", fields(80, &"y".repeat(1 << 10)), 431, "HeadTooLarge"),
        ("name of 70 KiB", and(format!("{}: y\r\n", "x".repeat(70 << 10))), 431, "HeadTooLarge"),
    ]
}

fn hosts() -> Vec<Row> {
    let host = |value: &str| with(format!("Host: {value}\r\n"));
    let http10 = |fields: &str| format!("GET / HTTP/1.0\r\n{fields}\r\n").into_bytes();
    let absolute = |fields: &str| format!("GET http://a/ HTTP/1.1\r\n{fields}\r\n").into_bytes();
    vec![
        ("no Host", with(""), 400, "NoHost"),
        ("absolute target without Host", absolute(""), 400, "NoHost"),
        ("two equal Hosts", with("Host: a\r\nHost: a\r\n"), 400, "SeveralHosts"),
        ("two Hosts", with("Host: a\r\nhost: b\r\n"), 400, "SeveralHosts"),
        ("two Hosts of HTTP/1.0", http10("Host: a\r\nHost: a\r\n"), 400, "SeveralHosts"),
        ("absolute, two Hosts", absolute("Host: a\r\nHost: a\r\n"), 400, "SeveralHosts"),
        ("absolute, bad Host", absolute("Host: a/b\r\n"), 400, "Host"),
        ("empty Host", with("Host:\r\n"), 400, "Host"),
        ("Host of spaces", host(" \t "), 400, "Host"),
        ("Host of a port", host(":80"), 400, "Host"),
        ("Host with userinfo", host("u@a"), 400, "Host"),
        ("Host with a path", host("a/b"), 400, "Host"),
        ("Host with a query", host("a?b"), 400, "Host"),
        ("Host with a fragment", host("a#b"), 400, "Host"),
        ("Host with a backslash", host("a\\b"), 400, "Host"),
        ("Host list", host("a, b"), 400, "Host"),
        ("Host list without space", host("a,b"), 400, "Host"),
        ("Host with a space", host("a b"), 400, "Host"),
        ("Host with a tab", host("a\tb"), 400, "Host"),
        ("Host with a word for its port", host("a:b"), 400, "Host"),
        ("Host with a large port", host("a:65536"), 400, "Host"),
        ("Host with a negative port", host("a:-80"), 400, "Host"),
        ("Host with two ports", host("a:80:80"), 400, "Host"),
        ("Host with half an address", host("[::1"), 400, "Host"),
        ("Host with an address that is none", host("[a]"), 400, "Host"),
        ("Host with a bare IPv6 address", host("::1"), 400, "Host"),
        ("Host as a URI", host("http://a"), 400, "Host"),
        ("Host in code", host("%61"), 400, "Host"),
        ("non-ASCII Host", host("\u{e9}"), 400, "Host"),
        ("bad Host of HTTP/1.0", http10("Host: a b\r\n"), 400, "Host"),
    ]
}

/// The rows of the sidecar's own table: the name of each defect, and its words in an answer.
pub fn defects() -> Vec<(String, String)> {
    let source = outrigger_tests::root().join("sidecar/src/proxy/http/h1/defect.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let row = |line: &str| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let why = rest.strip_suffix("\";")?.split_once(", \"")?.1;
        Some((name.to_owned(), why.to_owned()))
    };
    source.lines().filter_map(row).collect()
}

#[test]
fn every_defect_of_a_request_is_in_the_catalogue() {
    let cases = refused();
    let defects = defects();
    let known = |name: &str| defects.iter().any(|(defect, _)| defect == name);
    let here = |name: &str| {
        cases
            .iter()
            .any(|case| matches!(case.verdict, Verdict::Refused { defect, .. } if defect == name))
    };
    assert!(defects.len() > 20, "the table cannot be read: {defects:?}");
    for (name, _) in &defects {
        let elsewhere = OF_TIME.iter().chain(&OF_ANSWERS).any(|other| other == name);
        assert!(here(name) != elsewhere, "{name} is missing, or is listed as what it is not");
    }
    for name in OF_TIME.iter().chain(&OF_ANSWERS) {
        assert!(known(name), "{name} is no defect any more");
    }
}
