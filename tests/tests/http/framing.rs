//! Where a body ends: answers that have none, lengths that are kept, trailers, broken ends.

use outrigger_tests::backend::{ByHand, RawBackend, config};
use outrigger_tests::raw::{Answer, Raw};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A sidecar, an app, and the backend's end of the connection on which the app's request came.
struct Way {
    _sidecar: Sidecar,
    app: Raw,
    backend: ByHand,
    served: Raw,
}

impl Way {
    async fn of(request: &str) -> (Self, String) {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(request).await;
        let mut served = backend.accept().await;
        let head = served.request().await.unwrap();
        (Self { _sidecar: sidecar, app, backend, served }, head)
    }

    /// Another request of the app is answered over the same two connections.
    async fn goes_on(&mut self) {
        self.app.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let next = self.served.request().await.expect("the connection is used again");
        assert!(next.starts_with("GET /next HTTP/1.1\r\n"), "{next}");
        self.served.send(OK).await;
        assert_eq!(self.app.answer().await.unwrap().text(), "ok");
    }
}

/// The fields that frame a body, as (Content-Length, Transfer-Encoding).
fn framing(answer: &Answer) -> (Vec<&str>, Vec<&str>) {
    (answer.header("content-length"), answer.header("transfer-encoding"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_without_a_body_keep_what_they_say_of_it_and_end_with_their_head() {
    let none = Vec::<&str>::new;
    let cases = [
        // What a GET would get (RFC 9110, section 8.6).
        ("HEAD", "200 OK", "Content-Length: 5\r\n", vec!["5"]),
        ("HEAD", "404 Not Found", "Content-Length: 123456789\r\n", vec!["123456789"]),
        ("HEAD", "200 OK", "Content-Length: 0\r\n", vec!["0"]),
        ("HEAD", "200 OK", "Transfer-Encoding: chunked\r\n", none()),
        ("HEAD", "200 OK", "", none()),
        ("GET", "304 Not Modified", "Content-Length: 5\r\nETag: \"x\"\r\n", vec!["5"]),
        ("GET", "304 Not Modified", "Transfer-Encoding: chunked\r\n", none()),
        ("GET", "304 Not Modified", "", none()),
        ("GET", "204 No Content", "", none()),
        // It must not say so (RFC 9110, section 8.6), so it is not passed on.
        ("GET", "204 No Content", "Content-Length: 0\r\n", none()),
        ("DELETE", "204 No Content", "Content-Length: 5\r\n", none()),
        ("POST", "204 No Content", "Transfer-Encoding: chunked\r\n", none()),
    ];
    for (method, status, fields, length) in cases {
        let what = format!("{method} {status} {fields:?}");
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (mut way, _) = Way::of(&request).await;
        way.served.send(format!("HTTP/1.1 {status}\r\n{fields}\r\n")).await;
        let head = way.app.head().await.unwrap();
        assert_eq!(head.status.to_string(), status[..3], "{what}");
        assert_eq!(framing(&head), (length, vec![]), "{what}");
        assert_eq!(head.header("connection"), [""; 0], "{what}");
        // Had anything been taken for a body, the next answer would not come out right.
        way.goes_on().await;
    }
}

/// What follows such an answer is not a body and must not become somebody's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_where_there_can_be_none_reaches_nobody() {
    for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "204 None")] {
        let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (mut way, _) = Way::of(&request).await;
        way.served.send(format!("HTTP/1.1 {status}\r\nContent-Length: 42\r\n\r\n{evil}")).await;
        assert_eq!(way.app.head().await.unwrap().status.to_string(), status[..3]);
        assert!(way.served.is_closed().await, "{method} {status}: it could be used again");
        way.app.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        way.served = way.backend.accept().await;
        way.served.request().await.unwrap();
        way.served.send(OK).await;
        assert_eq!(way.app.answer().await.unwrap().text(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_is_framed_as_it_came() {
    let cases = [
        ("POST", "Content-Length: 0\r\n", "", Some("Content-Length: 0")),
        ("PUT", "Content-Length: 0\r\n", "", Some("Content-Length: 0")),
        ("GET", "Content-Length: 0\r\n", "", Some("Content-Length: 0")),
        ("POST", "", "", None),
        ("GET", "Content-Length: 4\r\n", "body", Some("Content-Length: 4")),
        ("DELETE", "content-length: 0004\r\n", "body", Some("Content-Length: 4")),
        ("POST", "transfer-encoding: Chunked\r\n", "0\r\n\r\n", Some("Transfer-Encoding: chunked")),
    ];
    for (method, fields, body, expected) in cases {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
        let (mut way, head) = Way::of(&request).await;
        let frames = |line: &&str| {
            let line = line.to_ascii_lowercase();
            line.starts_with("content-length:") || line.starts_with("transfer-encoding:")
        };
        let seen: Vec<_> = head.lines().filter(frames).collect();
        assert_eq!(seen, Vec::from_iter(expected), "{method} {fields:?}");
        assert_eq!(way.served.exactly(body.len()).await, body.as_bytes());
        way.served.send(OK).await;
        assert_eq!(way.app.answer().await.unwrap().text(), "ok");
        way.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_of_a_request_reach_the_backend_except_those_that_must_not_trail() {
    let (mut way, head) = Way::of(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum, Content-Length\r\nTrailer: X-Two\r\n\r\n\
         4\r\nbody\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\nHost: b\r\nAuthorization: x\r\n\
         Transfer-Encoding: chunked\r\nX-Two: 2\r\nConnection: close\r\nCookie: c\r\n\r\n",
    )
    .await;
    assert!(head.contains("\r\nTrailer: X-Sum, X-Two\r\n"), "{head}");
    let body = "4\r\nbody\r\n0\r\nX-Sum: 7\r\nX-Two: 2\r\n\r\n";
    assert_eq!(String::from_utf8(way.served.exactly(body.len()).await).unwrap(), body);
    way.served.send(OK).await;
    assert_eq!(way.app.answer().await.unwrap().text(), "ok");
    way.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_of_an_answer_reach_only_apps_that_ask_for_them() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n";
    let asked = "4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n";
    let unasked = "4\r\nbody\r\n0\r\n\r\n";
    for (fields, trailer, body) in [
        ("TE: trailers\r\nConnection: TE\r\n", vec!["X-Sum"], asked),
        ("TE: deflate, Trailers\r\n", vec!["X-Sum"], asked),
        ("TE: deflate\r\n", vec![], unasked),
        ("", vec![], unasked),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (mut way, head) = Way::of(&request).await;
        assert_eq!(head.contains("\r\nTE: trailers\r\n"), body == asked, "{head}");
        assert!(!head.contains("deflate"), "{head}");
        way.served.send(answer).await;
        let head = way.app.head().await.unwrap();
        assert_eq!(head.header("trailer"), trailer, "{fields:?}");
        assert_eq!(String::from_utf8(way.app.exactly(body.len()).await).unwrap(), body);
        way.goes_on().await;
    }
}

/// How an answer ended: all the bytes behind its head, and whether it was a close.
async fn ended(version: &str, answer: &'static str, reset: bool) -> (String, bool, Sidecar) {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(format!("GET / {version}\r\nHost: a\r\n\r\n")).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send(answer).await;
    app.head().await.unwrap();
    let begun = app.exactly(4).await;
    if reset {
        served.reset();
    } else {
        drop(served);
    }
    let (rest, end) = app.rest_and_end().await;
    let all = String::from_utf8([begun, rest].concat()).unwrap();
    (all, end.is_ok(), sidecar)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    const INSIDE: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf";
    const LAST: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nhalf";
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for (answer, reset) in [
            (LENGTH, false),
            (LENGTH, true),
            (CHUNKED, false),
            (CHUNKED, true),
            (INSIDE, false),
            (LAST, false),
            (UNTIL_CLOSE, true),
        ] {
            let what = format!("{version} {answer:?} {reset}");
            let (body, closed, sidecar) = ended(version, answer, reset).await;
            assert!(!body.contains("\r\n0\r\n"), "{what}: {body:?}");
            assert!(!closed, "{what}: {body:?}");
            eventually("the attempt counts as reset", secs(5), || async {
                let labels = [("outcome", "reset")];
                let resets = sidecar.metric("outrigger_outcomes_total", &labels).await;
                (resets == 1.0).then_some(())
            })
            .await;
        }
    }
}

/// Whether it was meant to be the end, nobody can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_close_is_the_end_of_an_answer_that_has_no_other() {
    let answer = b"HTTP/1.1 200 OK\r\n\r\nall";
    let backend = RawBackend::answering(b"\r\n\r\n", answer, true).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    for _ in 0..2 {
        app.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = app.answer().await.unwrap();
        assert_eq!((framing(&answer), answer.text().as_str()), ((vec![], vec!["chunked"]), "all"));
    }
    app.send("GET / HTTP/1.0\r\n\r\n").await;
    app.head().await.unwrap();
    let (body, end) = app.rest_and_end().await;
    assert_eq!((body.as_slice(), end.is_ok()), (b"all".as_slice(), true));
    let successes = sidecar.metric("outrigger_outcomes_total", &[("outcome", "success")]).await;
    assert_eq!(successes, 3.0);
}
