//! HTTP/1.0 on either side: what it cannot say is said otherwise.

use outrigger_tests::backend::{ByHand, RawBackend, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A sidecar before a backend that answers so whenever it has read a head.
async fn answering(answer: &'static str, close: bool) -> (RawBackend, Sidecar) {
    let backend = RawBackend::answering(b"\r\n\r\n", answer.as_bytes(), close).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    (backend, sidecar)
}

const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                       2\r\nhe\r\n3;ext\r\nllo\r\n0\r\nX-Sum: 7\r\n\r\n";
const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nhello";

/// Whoever speaks HTTP/1.0 knows no chunks: the end of the connection ends the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_of_http10_gets_every_answer_without_chunks() {
    for (answer, close, length) in
        [(LENGTH, false, vec!["5"]), (CHUNKED, false, vec![]), (UNTIL_CLOSE, true, vec![])]
    {
        let (backend, sidecar) = answering(answer, close).await;
        for fields in ["", "Host: a\r\n", "Connection: keep-alive\r\n", "TE: trailers\r\n"] {
            let mut app = Raw::connect(sidecar.web()).await;
            app.send(format!("GET / HTTP/1.0\r\n{fields}\r\n")).await;
            let head = app.head().await.unwrap();
            // The version says what we speak, not what the answer needs (RFC 9110, section 2.5).
            assert!(head.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", head.head);
            assert_eq!(head.header("content-length"), length, "{answer:?} {fields:?}");
            assert_eq!(
                (head.header("transfer-encoding"), head.header("trailer")),
                (vec![], vec![])
            );
            if length.is_empty() || !fields.contains("keep-alive") {
                assert_eq!(head.header("connection"), ["close"], "{answer:?} {fields:?}");
                let (body, end) = app.rest_and_end().await;
                assert_eq!((body.as_slice(), end.is_ok()), (b"hello".as_slice(), true));
            } else {
                assert_eq!(head.header("connection"), ["keep-alive"], "{answer:?} {fields:?}");
                assert_eq!(app.exactly(5).await, b"hello");
            }
        }
        // Towards the backend it is HTTP/1.1 all the same, and that needs a Host.
        let received = backend.received().concat();
        assert_eq!(received.matches("GET / HTTP/1.1\r\nHost: a\r\n").count(), 1, "{received}");
        let own_name = format!("GET / HTTP/1.1\r\nHost: {}\r\n", backend.address);
        assert_eq!(received.matches(&own_name).count(), 3, "{received}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_of_http10_keeps_its_connection_only_if_it_asks_to() {
    let (_backend, sidecar) = answering(LENGTH, false).await;
    let mut app = Raw::connect(sidecar.web()).await;
    for _ in 0..3 {
        app.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").await;
        let answer = app.answer().await.unwrap();
        assert_eq!(
            (answer.text().as_str(), answer.header("connection")),
            ("hello", vec!["keep-alive"])
        );
    }
    // HTTP/1.1 in between needs not ask.
    app.send(GET).await;
    assert_eq!(app.answer().await.unwrap().header("connection"), [""; 0]);
    for last in
        ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n"]
    {
        app.send(last).await;
        assert_eq!(app.answer().await.unwrap().header("connection"), ["close"], "{last}");
        assert!(app.is_closed().await);
        app = Raw::connect(sidecar.web()).await;
    }
}

/// Before HTTP/1.1 a server could read a body to the end of the connection. Nobody may take
/// what follows a request for part of it, or for another one that was not checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_of_http10_without_a_length_has_no_body() {
    let (backend, sidecar) = answering(LENGTH, false).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send("POST / HTTP/1.0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().text(), "hello");
    assert!(app.is_closed().await);
    let received = backend.received().concat();
    assert!(received.starts_with("POST / ") && !received.contains("hidden"), "{received}");

    let mut app = Raw::connect(sidecar.web()).await;
    app.send("POST / HTTP/1.0\r\nContent-Length: 8\r\n\r\nbody\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().text(), "hello");
    assert!(backend.received().concat().contains("\r\n\r\nbody\r\n\r\n"));
}

/// The app can tell whether it has all of it, which the backend's own framing does not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_of_http10_without_a_length_is_framed_anew() {
    for answer in
        ["HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello"]
    {
        let (_backend, sidecar) = answering(answer, true).await;
        let mut app = Raw::connect(sidecar.web()).await;
        for _ in 0..3 {
            app.send(GET).await;
            let answer = app.answer().await.unwrap();
            assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
            assert_eq!(answer.header("transfer-encoding"), ["chunked"]);
            assert_eq!((answer.header("connection"), answer.text().as_str()), (vec![], "hello"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_connection_of_a_backend_of_http10_is_kept_only_if_it_says_so() {
    let cases = [
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", 1),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive, x\r\n\r\nhello", 1),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 3),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", 3),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, CLOSE\r\n\r\nhello", 3),
    ];
    for (answer, connections) in cases {
        // It does not close, whatever it says; that it may is enough.
        let (backend, sidecar) = answering(answer, false).await;
        let mut app = Raw::connect(sidecar.web()).await;
        for _ in 0..3 {
            app.send(GET).await;
            assert_eq!(app.answer().await.unwrap().text(), "hello");
        }
        assert_eq!(backend.received().len(), connections, "{answer:?}");
    }
}

/// HTTP/1.0 has no chunks: what looks like them has been through somebody who does not know what
/// it passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn chunks_of_a_backend_of_http10_are_a_502() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(GET).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send(CHUNKED.replace("HTTP/1.1", "HTTP/1.0")).await;
    let answer = app.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-outrigger-error")),
        (502, vec!["upstream_protocol"])
    );
    assert!(served.is_closed().await);
}
