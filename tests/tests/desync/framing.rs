//! Requests that are refused for what they say of their bodies, or for the bodies.

use crate::case::ID;
use crate::catalogue::{Row, with};

/// Would be a request to whoever took the body, or an end, for something else.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Id: smuggled\r\n\r\n";

/// Refused for what the head says; what is behind it no longer matters.
pub fn framing() -> Vec<Row> {
    let row = |(version, fields, status, defect): (&str, String, u16, &'static str)| {
        let head = format!("POST / HTTP/{version}\r\nX-Id: {ID}\r\nHost: a\r\n{fields}\r\n\r\n");
        let body = if fields.contains("chunked") { CHUNKS } else { "hello" };
        ("framing", format!("{head}{body}{SMUGGLED}").into_bytes(), status, defect)
    };
    lengths().chain(codings()).chain(both()).map(row).collect()
}

const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";
const CL: &str = "Content-Length: 5";
const TE: &str = "Transfer-Encoding: chunked";

/// Version, fields, status and defect.
type Head = (&'static str, String, u16, &'static str);

fn lengths() -> impl Iterator<Item = Head> {
    let invalid = [
        "",
        "+5",
        "-5",
        "5 5",
        "5,5",
        "5, 5",
        "5,",
        "5 x",
        "0x5",
        "5.0",
        "1e1",
        "5_0",
        "5;",
        "\"5\"",
        "five",
        "\u{ff15}",
        "18446744073709551616",
    ];
    let invalid = invalid.map(|value| (format!("Content-Length: {value}"), "LengthInvalid"));
    let several = ["content-length: 5", "Content-Length: 6", "Content-Length:"];
    let several = several.map(|other| (format!("{CL}\r\n{other}"), "SeveralLengths"));
    invalid.into_iter().chain(several).map(|(fields, defect)| ("1.1", fields, 400, defect))
}

fn codings() -> impl Iterator<Item = Head> {
    let coding = |value: &str| format!("Transfer-Encoding: {value}");
    let not_chunked = [
        "",
        "identity",
        "gzip",
        "chunked, gzip",
        "chunked, identity",
        "chunked, chunked",
        "chunked, gzip, chunked",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunkedx",
        "chun ked",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{a0}",
    ];
    let unknown = ["gzip, chunked", "identity, chunked", "gzip,deflate , Chunked"];
    let several = ["chunked", "identity", "x", ""];
    let of = |status, defect| move |fields| ("1.1", fields, status, defect);
    (not_chunked.map(coding).map(of(400, "CodingNotChunked")).into_iter())
        .chain(unknown.map(coding).map(of(501, "CodingUnknown")))
        .chain(
            several
                .map(|other| format!("{TE}\r\n{}", coding(other)))
                .map(of(400, "SeveralCodings")),
        )
        .chain(
            several
                .map(|other| format!("{}\r\n{TE}", coding(other)))
                .map(of(400, "SeveralCodings")),
        )
        .chain(
            ["chunked", "x", ""]
                .map(coding)
                .map(|fields| ("1.0", fields, 400, "CodingBeforeHttp11")),
        )
}

fn both() -> impl Iterator<Item = Head> {
    let both = [
        format!("{CL}\r\n{TE}"),
        format!("{TE}\r\n{CL}"),
        format!("Content-Length: 0\r\n{TE}"),
        format!("Content-Length: x\r\n{TE}"),
        format!("{CL}\r\nTransfer-Encoding: x"),
        format!("{CL}\r\n{CL}\r\n{TE}"),
        format!("{CL}\r\n{TE}\r\n{TE}"),
    ];
    let old = format!("{CL}\r\n{TE}");
    let row = |version| move |fields| (version, fields, 400, "LengthAndCoding");
    both.into_iter().map(row("1.1")).chain([old].map(row("1.0")))
}

pub fn expectations() -> Vec<Row> {
    ["the-best", "y 100-continue", "100-continue, x", "100-continue;q", "100-continued", ""]
        .into_iter()
        .map(|value| {
            let fields = format!("Host: a\r\nExpect: {value}\r\nContent-Length: 5\r\n\r\nhello");
            ("expectation", with(fields), 417, "Expectation")
        })
        .collect()
}

/// Chunked bodies that are malformed, be it of a request or of an answer, each with what is wrong.
pub fn bad_chunks() -> Vec<(&'static str, String)> {
    chunks().into_iter().map(|(what, body, ..)| (what, body)).collect()
}

/// Of these the bytes are the body, of a request that is good otherwise.
pub fn chunks() -> Vec<(&'static str, String, u16, &'static str)> {
    let mut rows = Vec::new();
    let mut bad = |what: &'static str, status, defect, bodies: &[&str]| {
        rows.extend(bodies.iter().map(|body| (what, format!("{body}{SMUGGLED}"), status, defect)));
    };
    const END: &str = "\r\nhello\r\n0\r\n\r\n";
    let size = |size: &str| format!("{size}{END}");
    for text in [
        "x",
        "",
        "0x5",
        "-5",
        "+5",
        " 5",
        "\t5",
        "5 ",
        "5\t",
        "5 5",
        "5,5",
        "5.",
        "5\x0b",
        "5\0",
        "5\r",
        "\u{ff15}",
        "00000000000000005",
        "10000000000000005",
        "fffffffffffffffff",
    ] {
        bad("chunk size", 400, "ChunkSize", &[&size(text)]);
    }
    bad(
        "chunk size",
        400,
        "ChunkSize",
        &[
            "5\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\nhello\r\nx\r\n",
            "5\r\nhello\r\n\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\n\r\n",
            "5\r\nhello\r\n0\n\n",
            "5\r\nhello\r\n-0\r\n\r\n",
        ],
    );
    for text in
        ["5;", "5;;", "5;=x", "5;a=", "5;a=\"b", "5;a=\"\0\"", "5;a=\"\r\"", "5;a=;b", "5;\u{e9}"]
    {
        bad("chunk extension", 400, "ChunkExtension", &[&size(text)]);
    }
    for text in ["5;a b", "5;a,b=\"", "5;a\0b", "5;a=b c", "5;a=\"b\"c", "5;a\x0b", "5 a", "5;a\r"]
    {
        bad("chunk extension", 400, "ChunkSize", &[&size(text)]);
    }
    let many = format!("1;{}\r\nx\r\n", "a".repeat(1000)).repeat(20);
    let long = ["a".repeat(5 << 10), "a".repeat(70 << 10)].map(|a| size(&format!("5;{a}")));
    bad("long chunk extension", 400, "ChunkExtension", &[&long[0], &long[1], &many]);
    bad(
        "end of a chunk",
        400,
        "ChunkEnd",
        &[
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello\r\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n\r\n0\r\n\r\n",
            "6\r\nhello\r\n0\r\n\r\n",
            "4\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello",
        ],
    );
    for trailers in [
        "\n",
        "\rX",
        "X: y\n\r\n",
        "X: y\n\n",
        "X: y\r\n\n",
        "X : y\r\n\r\n",
        ": y\r\n\r\n",
        "X\r\n\r\n",
        " X: y\r\n\r\n",
        "X: y\r\n z\r\n\r\n",
        "X: \0\r\n\r\n",
        "X: y\rz\r\n\r\n",
        "",
    ] {
        bad("trailers", 400, "Trailers", &[&format!("5\r\nhello\r\n0\r\n{trailers}")]);
    }
    let large = format!("0\r\nX: {}\r\n\r\n", "y".repeat(100 << 10));
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(200));
    bad("large trailers", 431, "TrailersTooLarge", &[&large, &many]);
    rows
}
