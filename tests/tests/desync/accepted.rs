//! Requests that look doubtful and are served, each as the backend must read it.

use crate::case::{Case, ID, Seen, Verdict};

/// A request of somebody else, as it lies in bodies.
const INNER: &str = "GET /inner HTTP/1.1\r\nHost: a\r\nX-Id: inner\r\n\r\n";

pub fn accepted() -> Vec<Case> {
    [targets(), hosts(), lengths(), chunks(), hops(), fields(), versions()].concat()
}

/// Methods that h11 knows for what they are, tokens, and llhttp does not know.
pub fn methods() -> Vec<Case> {
    let long = "M".repeat(200);
    let methods = ["get", "Get", "X", "GET2", "CONNECTED", "!#$%&'*+-.^_`|~", &long];
    let case = |method: &&str| {
        let seen = Seen::of(method, &format!("/{ID}"), "a");
        case("method", &format!("{method} /{ID} HTTP/1.1"), "Host: a\r\n", "", seen)
    };
    methods.iter().map(case).collect()
}

/// An ordinary request.
pub fn plain() -> Case {
    let seen = Seen::of("GET", &format!("/{ID}"), "a");
    case("plain", &format!("GET /{ID} HTTP/1.1"), "Host: a\r\n", "", seen)
}

fn case(what: &str, line: &str, fields: &str, body: &str, seen: Seen) -> Case {
    let bytes = format!("{line}\r\nX-Id: {ID}\r\n{fields}\r\n{body}").into_bytes();
    Case { what: format!("{what}: {line}"), bytes, verdict: Verdict::Passed(seen) }
}

/// A GET with these fields beside Host.
fn with(what: &str, fields: &str, seen: impl FnOnce(Seen) -> Seen) -> Case {
    let seen = seen(Seen::of("GET", &format!("/{ID}"), "a"));
    case(what, &format!("GET /{ID} HTTP/1.1"), &format!("Host: a\r\n{fields}"), "", seen)
}

/// A POST with these fields beside Host, and this body, which decodes to `data`.
fn post(what: &str, fields: &str, body: &str, data: &str) -> Case {
    let seen = Seen::of("POST", &format!("/{ID}"), "a").with_body(data);
    case(what, &format!("POST /{ID} HTTP/1.1"), &format!("Host: a\r\n{fields}"), body, seen)
}

fn targets() -> Vec<Case> {
    let table = [
        ("GET", "/a?b=c&d=%20e", "/a?b=c&d=%20e", "a"),
        ("GET", "/a?b?c/../d", "/a?b?c/../d", "a"),
        ("GET", "/%2F%5c;x=y/%2e%2e%2f", "/%2F%5c;x=y/%2e%2e%2f", "a"),
        ("GET", "/\"<>^`{|}'()*!$&,=:@[]", "/\"<>^`{|}'()*!$&,=:@[]", "a"),
        ("GET", "//b/c", "//b/c", "a"),
        ("GET", "/http://b/", "/http://b/", "a"),
        // The same form is routed by and sent on.
        ("GET", "/a/../b/./c", "/b/c", "a"),
        ("GET", "/a/%2e%2E/../../b", "/b", "a"),
        ("OPTIONS", "*", "*", "a"),
        ("GET", "http://b.example/c", "/c", "b.example"),
        ("GET", "HTTP://b:8080/c?d", "/c?d", "b:8080"),
        ("GET", "https://b", "/", "b"),
        ("GET", "http://b?c", "/?c", "b"),
        ("GET", "http://[2001:db8::1]:80/c", "/c", "[2001:db8::1]:80"),
        ("OPTIONS", "http://b", "*", "b"),
        ("OPTIONS", "http://b/", "/", "b"),
        ("PURGE", "/", "/", "a"),
        ("M-SEARCH", "/", "/", "a"),
    ];
    let row = |(method, target, seen, host)| {
        let line = format!("{method} {target} HTTP/1.1");
        case("target", &line, "Host: a\r\n", "", Seen::of(method, seen, host))
    };
    table.into_iter().map(row).collect()
}

fn hosts() -> Vec<Case> {
    let table = [
        ("Host:a\r\n", "a"),
        ("hOsT: \t a \t \r\n", "a"),
        ("Host: a.b-c_d~e:8080\r\n", "a.b-c_d~e:8080"),
        ("Host: [2001:db8::1]:80\r\n", "[2001:db8::1]:80"),
        ("Host: 192.0.2.1\r\n", "192.0.2.1"),
        ("Host: a!$&'()*+;=\r\n", "a!$&'()*+;="),
        ("X-Host: b\r\nHost: a\r\n", "a"),
    ];
    let row = |(fields, host)| {
        let seen = Seen::of("GET", &format!("/{ID}"), host);
        case("host", &format!("GET /{ID} HTTP/1.1"), fields, "", seen)
    };
    table.into_iter().map(row).collect()
}

fn lengths() -> Vec<Case> {
    let inner = format!("Content-Length: {}\r\n", INNER.len());
    let large = "0123456789abcdef".repeat(100 << 6);
    let mut cases = vec![
        post("no length", "", "", ""),
        post("length 0", "Content-Length: 0\r\n", "", ""),
        post("zeros before the length", "Content-Length: 0005\r\n", "hello", "hello"),
        post("space around the length", "cOnTeNt-LeNgTh:\t 5 \t\r\n", "hello", "hello"),
        post("body that is a request", &inner, INNER, INNER),
        post("body that is blank lines", "Content-Length: 6\r\n", "\r\n\r\n\r\n", "\r\n\r\n\r\n"),
        post("body of 100 KiB", "Content-Length: 102400\r\n", &large, &large),
        post("expected", &format!("Expect: 100-continue\r\n{inner}"), INNER, INNER),
        post("expected loudly", &format!("Expect: 100-CONTINUE\r\n{inner}"), INNER, INNER),
        post(
            "expected twice",
            &format!("{}{inner}", "Expect: 100-continue\r\n".repeat(2)),
            INNER,
            INNER,
        ),
        post("expected without a body", "Expect: 100-continue\r\n", "", ""),
        // Names that some take for others.
        post("length by another name", &format!("Content_Length: 0\r\n{inner}"), INNER, INNER)
            .without("content_length"),
        post(
            "coding by another name",
            &format!("Transfer_Encoding: chunked\r\n{inner}"),
            INNER,
            INNER,
        )
        .without("transfer_encoding"),
        post(
            "coding by a longer name",
            &format!("X-Transfer-Encoding: chunked\r\n{inner}"),
            INNER,
            INNER,
        ),
        post("hop-by-hop length", &format!("Connection: content-length\r\n{inner}"), INNER, INNER),
    ];
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let seen = Seen::of(method, &format!("/{ID}"), "a").with_body(INNER);
        let line = format!("{method} /{ID} HTTP/1.1");
        cases.push(case("body", &line, &format!("Host: a\r\n{inner}"), INNER, seen));
    }
    cases
}

fn chunks() -> Vec<Case> {
    const TE: &str = "Transfer-Encoding: chunked\r\n";
    let large = "0123456789abcdef".repeat(100 << 6);
    let inner = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
    let one = "5\r\nhello\r\n0\r\n\r\n";
    let chunked = |what: &str, body: &str| post(what, TE, body, "hello");
    let get = Seen::of("GET", &format!("/{ID}"), "a").with_body("hello");
    let forbidden = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: b\r\nCookie: c\r\n\
                     Authorization: d\r\nContent-Type: e\r\nTrailer: f\r\nConnection: close\r\n";
    vec![
        chunked("chunk", one),
        post("coding in capitals", "TRANSFER-ENCODING:\t CHUNKED \r\n", one, "hello"),
        post("hop-by-hop coding", &format!("Connection: Transfer-Encoding\r\n{TE}"), one, "hello"),
        post("expected chunk", &format!("Expect: 100-continue\r\n{TE}"), one, "hello"),
        case("chunk", &format!("GET /{ID} HTTP/1.1"), &format!("Host: a\r\n{TE}"), one, get),
        post("no chunk", TE, "0\r\n\r\n", ""),
        post("chunk that is a request", TE, &inner, INNER),
        post("chunk that is an end", TE, "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n"),
        post("chunk of 100 KiB", TE, &format!("19000\r\n{large}\r\n0\r\n\r\n"), &large),
        chunked("chunks", "1\r\nh\r\n3\r\nell\r\n1\r\no\r\n000\r\n\r\n"),
        chunked("zeros before a size", "0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n"),
        post("size in capitals", TE, "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        chunked("extension", "5;a\r\nhello\r\n0;b\r\n\r\n"),
        chunked("extensions", "5 ; a = b\t;c=\"d;\\\"e\"\r\nhello\r\n0\r\n\r\n"),
        chunked("extension that is a size", "5;5=5\r\nhello\r\n0;0\r\n\r\n"),
        chunked("extension that is not ASCII", "5;a=\"\u{e9}\"\r\nhello\r\n0\r\n\r\n"),
        chunked("trailers", "5\r\nhello\r\n0\r\nX-Sum: 7\r\nx-empty:\r\n\r\n")
            .with_trailers(&[("x-sum", "7"), ("x-empty", "")]),
        chunked("forbidden trailers", &format!("5\r\nhello\r\n0\r\n{forbidden}X: y\r\n\r\n"))
            .with_trailers(&[("x", "y")]),
    ]
}

fn hops() -> Vec<Case> {
    let address = ("x-forwarded-for", "127.0.0.1");
    let chosen = "Cookie: c\r\nAuthorization: d\r\nTraceparent: e\r\n";
    vec![
        with("hop-by-hop address", "Connection: X-Forwarded-For\r\n", |s| s.with(&[address])),
        with(
            "hop-by-hop address of its own",
            "X-Forwarded-For: 1.2.3.4\r\nConnection: x-forwarded-for\r\n",
            |s| s.with(&[("x-forwarded-for", "1.2.3.4, 127.0.0.1")]),
        ),
        with("hop-by-hop Host", "Connection: host, keep-alive\r\n", |s| s),
        with(
            "hop-by-hop credentials",
            &format!("Connection: cookie, authorization,traceparent\r\n{chosen}"),
            |s| s.with(&[("cookie", "c"), ("authorization", "d"), ("traceparent", "e")]),
        ),
        with(
            "hop-by-hop fields",
            "Connection: X-A, ,x-b,\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n",
            |s| s.with(&[("x-c", "3")]).without(&["connection", "x-a", "x-b"]),
        ),
        with(
            "fields of one hop",
            "Keep-Alive: 5\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nTrailer: Host\r\n",
            |s| s.without(&["keep-alive", "proxy-connection", "proxy-authorization", "trailer"]),
        ),
        with("TE", "TE: chunked;q=1, trailers\r\n", |s| s.with(&[("te", "trailers")])),
        with("TE that is a coding", "TE: chunked\r\n", |s| s.without(&["te"])),
        with("upgrade", "Connection: Upgrade\r\nUpgrade: websocket\r\n", |s| {
            s.with(&[("connection", "Upgrade"), ("upgrade", "websocket")])
        }),
        with("upgrade that is not meant", "Upgrade: websocket\r\n", |s| s.without(&["upgrade"])),
        with(
            "upgrade to HTTP/2",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            |s| s.without(&["connection", "upgrade", "http2-settings"]),
        ),
        with("close", "Connection: close\r\n", |s| s.closing().without(&["connection"])),
        with("close among others", "Connection: x-a, CLOSE\r\n", |s| s.closing()),
    ]
}

fn fields() -> Vec<Case> {
    let long = "y".repeat(30 << 10);
    let many: String = (0..95).map(|i| format!("x-{i}: y\r\n")).collect();
    vec![
        with("blank line before", "", |s| s).behind("\r\n"),
        with("blank lines before", "", |s| s).behind("\r\n\r\n\r\n\r\n"),
        with("empty value", "X:\r\nY: \t \r\n", |s| s.with(&[("x", ""), ("y", "")])),
        with("odd value", "X: : \"\tz,\\\r\n", |s| s.with(&[("x", ": \"\tz,\\")])),
        with("value that is not ASCII", "X: \u{e9}\r\n", |s| s.with(&[("x", "\u{c3}\u{a9}")])),
        with("odd name", "!#$%&'*+-.^_`|~0: y\r\n", |s| s.with(&[("!#$%&'*+-.^_`|~0", "y")])),
        with("equal names", "X: 1\r\nY: 2\r\nx: 3\r\n", |s| s.with(&[("x", "1"), ("x", "3")])),
        with("long value", &format!("X: {long}\r\n"), |s| s.with(&[("x", &long)])),
        with("many fields", &many, |s| s.with(&[("x-94", "y")])),
        with("underscore", "my_field: y\r\n", |s| s.with(&[("my_field", "y")])),
        with("underscore twin", "my_field: y\r\nMy-Field: z\r\n", |s| {
            s.with(&[("my-field", "z")]).without(&["my_field"])
        }),
        with("underscore twin of ours", "x_forwarded_for: 1.2.3.4\r\n", |s| {
            s.with(&[("x-forwarded-for", "127.0.0.1")]).without(&["x_forwarded_for"])
        }),
    ]
}

fn versions() -> Vec<Case> {
    let http10 = |what: &str, fields: &str, body: &str, seen: Seen| {
        case(what, &format!("POST /{ID} HTTP/1.0"), fields, body, seen)
    };
    let seen = |host: &str| Seen::of("POST", &format!("/{ID}"), host);
    let keep = "Connection: keep-alive\r\nContent-Length: 5\r\n";
    vec![
        http10("HTTP/1.0", "Host: a\r\n", "", seen("a").closing()),
        http10("HTTP/1.0 without Host", "", "", seen("BACKEND").closing()),
        http10(
            "HTTP/1.0 that keeps",
            &format!("{keep}Host: a\r\n"),
            "hello",
            seen("a").with_body("hello"),
        ),
        http10(
            "HTTP/1.0 that expects",
            &format!("{keep}Expect: 100-continue\r\n"),
            "hello",
            seen("BACKEND").with_body("hello"),
        ),
    ]
}
