//! Malformed and doubtful requests: refused, unseen by any backend, and without a trace on the
//! connections that good requests use.

use outrigger_tests::backend::{Backend, RawBackend, config};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

/// What is sent, and the status of the answer.
fn table() -> Vec<(&'static str, Vec<u8>, u16)> {
    let with = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes();
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let method = |method: &str| format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let version = |version: &str| format!("GET / {version}\r\nHost: a\r\n\r\n").into_bytes();
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
    };
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    vec![
        ("no Host", with(""), 400),
        ("two Hosts", with("Host: a\r\nHost: a\r\n"), 400),
        ("empty Host", with("Host:\r\n"), 400),
        ("Host with userinfo", with("Host: u@a\r\n"), 400),
        ("Host with a path", with("Host: a/b\r\n"), 400),
        ("Host list", with("Host: a, b\r\n"), 400),
        ("Host with a bad port", with("Host: a:b\r\n"), 400),
        ("space before the colon", with("Host: a\r\nx : y\r\n"), 400),
        ("folded field", with("Host: a\r\nx: y\r\n z\r\n"), 400),
        ("NUL in a value", with("Host: a\r\nx: y\0z\r\n"), 400),
        ("bare CR in a value", with("Host: a\r\nx: y\rz\r\n"), 400),
        ("empty name", with("Host: a\r\n: y\r\n"), 400),
        ("target without a slash", target("a"), 400),
        ("backslash in the target", target("/a\\b"), 400),
        ("%00 in the target", target("/a%00"), 400),
        ("authority with userinfo", target("http://u@a/"), 400),
        ("star with GET", target("*"), 400),
        ("long target", target(&format!("/{}", "a".repeat(9 << 10))), 414),
        ("very long target", target(&format!("/{}", "a".repeat(70 << 10))), 431),
        ("long field", with(&format!("Host: a\r\nx: {}\r\n", "y".repeat(100 << 10))), 431),
        ("many fields", with(&format!("Host: a\r\n{many}")), 431),
        ("CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_vec(), 405),
        ("TRACE", method("TRACE"), 405),
        ("HTTP/1.2", version("HTTP/1.2"), 400),
        ("HTTP/2.0 as text", version("HTTP/2.0"), 400),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505),
        ("length that is no number", post("Content-Length: x\r\n", ""), 400),
        ("length list", post("Content-Length: 5, 5\r\n", "hello"), 400),
        ("lengths that differ", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), 400),
        ("negative length", post("Content-Length: -1\r\n", ""), 400),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 501),
        (
            "two codings",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        ("coding that is not chunked", post("Transfer-Encoding: gzip\r\n", "x"), 400),
        (
            "coding in HTTP/1.0",
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            400,
        ),
        ("chunk size that is no number", post("Transfer-Encoding: chunked\r\n", "x\r\n"), 400),
        (
            "chunk size with 0x",
            post("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunk without its end",
            post("Transfer-Encoding: chunked\r\n", "5\r\nhelloX\r\n0\r\n\r\n"),
            400,
        ),
        ("unknown expectation", post("Expect: the-best\r\nContent-Length: 0\r\n", ""), 417),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn malformed_requests_get_their_status_and_the_connection_ends() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    for (what, request, status) in table() {
        let mut raw = Raw::connect(sidecar.web()).await;
        raw.send(&request).await;
        let answer = raw.answer().await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(answer.status, status, "{what}: {}", answer.head);
        assert!(raw.is_closed().await, "{what}: the connection stays open");
    }
    let refused = sidecar.metric("outrigger_errors_total", &[("reason", "bad_request")]).await;
    assert!(refused > 10.0, "{refused}");
}

/// Some of the table break off inside a body, when the backend has seen the head; those are
/// the ones with a chunk. Everything else it must never see.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_backend_sees_a_malformed_head() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    for (what, request, _) in table().into_iter().filter(|(what, ..)| !what.starts_with("chunk ")) {
        exchange(sidecar.web(), &request).await;
        assert_eq!(backend.hits(), 0, "{what} reached the backend");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn good_requests_are_not_touched_by_bad_ones() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut good = Raw::connect(sidecar.web()).await;
    for (i, (what, request, _)) in table().into_iter().enumerate() {
        good.send(format!("GET /good/{i} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(good.answer().await.unwrap().text(), "ok", "{what}");
        // Alone, and behind a good one on the same connection.
        exchange(sidecar.web(), &request).await;
        let mut raw = Raw::connect(sidecar.web()).await;
        let mut both = format!("GET /before/{i} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        both.extend_from_slice(&request);
        raw.send(&both).await;
        assert_eq!(raw.answer().await.unwrap().text(), "ok", "{what}");
    }
    // Every request that any backend connection received is one that was answered, or the head
    // of one whose body broke off.
    for line in backend.received().concat().lines().filter(|line| line.contains("HTTP/")) {
        let good = line.starts_with("GET /good/") || line.starts_with("GET /before/");
        assert!(good || line == "POST / HTTP/1.1", "{line:?}");
    }
}

/// Content-Length beside Transfer-Encoding: chunked wins, the length is dropped and the
/// connection ends, so there is nothing for two servers to disagree about.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_length_beside_chunked_is_dropped_and_the_connection_ends() {
    let backend = RawBackend::answering(
        b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    assert!(raw.is_closed().await);
    let received = backend.received().join("");
    assert!(!received.to_lowercase().contains("content-length"), "{received}");
    assert!(!received.contains("smuggled"), "{received}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refusal_arrives_although_the_app_is_still_sending() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    // Without reading on after the refusal, the kernel would reset the connection.
    raw.send("POST / HTTP/1.1\r\nHost: a, b\r\nContent-Length: 200000\r\n\r\n").await;
    raw.send(vec![b'x'; 200_000]).await;
    let answer = tokio::time::timeout(secs(5), raw.answer()).await.unwrap().unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-outrigger-error"), ["bad_request"]);
}
