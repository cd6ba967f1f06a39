//! Bodies: streamed both ways, whole or visibly broken.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use outrigger_tests::backend::{Backend, RawBackend, config, full};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::sync::mpsc;

/// A backend that sends back what it gets, as it gets it.
async fn echo() -> Backend {
    Backend::answering(|request| async move {
        let body = request.into_body().map_err(|e| panic!("{e}"));
        Response::new(body.boxed())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bodies_of_known_and_unknown_length_pass_whole() {
    let backend = echo().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let payload: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();

    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", payload.len()))
        .await;
    let (mut read, mut write) = raw.stream.into_split();
    let sent = payload.clone();
    let sending = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &sent).await.unwrap();
        write
    });
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !answer.ends_with(&payload[payload.len() - 100..]) {
        let n = tokio::io::AsyncReadExt::read(&mut read, &mut buffer).await.unwrap();
        assert!(n > 0, "closed after {} bytes", answer.len());
        answer.extend_from_slice(&buffer[..n]);
    }
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(answer[head..] == payload, "{} bytes of {}", answer.len() - head, payload.len());
    drop(sending.await.unwrap());

    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let answer = exchange(sidecar.web(), chunked).await;
    assert_eq!(answer.text(), "hello world");
    assert_eq!(answer.header("transfer-encoding"), ["chunked"]);
    let (up, down) = (("direction", "to_backend"), ("direction", "from_backend"));
    for direction in [up, down] {
        let bytes = sidecar.metric("outrigger_bytes_total", &[direction]).await;
        assert_eq!(bytes, 3_000_011.0, "{direction:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pieces_pass_as_they_come() {
    let backend = echo().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert_eq!(raw.head().await.unwrap().status, 200);
    // Each piece is answered before the next is sent: nothing waits for the end.
    for piece in ["5\r\nhello\r\n", "6\r\n world\r\n"] {
        raw.send(piece).await;
        let mut echoed = vec![0; piece.len()];
        let reading = tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut echoed);
        tokio::time::timeout(secs(5), reading).await.expect("it comes at once").unwrap();
        assert_eq!(String::from_utf8(echoed).unwrap(), piece);
    }
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.chunks().await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_app_slows_the_backend_down() {
    let (sent, mut progress) = mpsc::unbounded_channel();
    let backend = Backend::answering(move |_| {
        let sent = sent.clone();
        async move {
            let (body, pieces) = mpsc::channel::<Bytes>(1);
            tokio::spawn(async move {
                for i in 0..2000usize {
                    if body.send(Bytes::from(vec![b'x'; 64 << 10])).await.is_err() {
                        return;
                    }
                    let _ = sent.send(i);
                }
            });
            let frames = futures_util::stream::unfold(pieces, |mut pieces| async {
                let piece = pieces.recv().await?;
                Some((Ok(Frame::data(piece)), pieces))
            });
            Response::new(StreamBody::new(frames).boxed())
        }
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.head().await.unwrap().status, 200);
    // Nothing is read from here on: once the sockets are full, the backend has to wait.
    let mut pieces = 0;
    while let Ok(Some(_)) = tokio::time::timeout(millis(500), progress.recv()).await {
        pieces += 1;
    }
    let buffered = (pieces * 64) << 10;
    assert!(buffered < 20 << 20, "{buffered} bytes left the backend");
    let rss = std::fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let rss = rss.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let rss: usize = rss.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(rss < 60 << 10, "{rss} kB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_without_a_body_have_none() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"x\"\r\n\r\n",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    for _ in 0..2 {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("etag")), (304, vec!["\"x\""]));
    }

    let backend =
        RawBackend::answering(b"\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n", false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("content-length"), [""; 0]);
    assert_eq!(answer.header("transfer-encoding"), [""; 0]);

    let backend = Backend::answering(|_| async { Response::new(full("12345")) }).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    for _ in 0..2 {
        raw.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = raw.head().await.unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, vec!["5"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_ends_with_the_connection_is_framed_anew() {
    let backend =
        RawBackend::answering(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", true).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    for _ in 0..2 {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.header("transfer-encoding"), ["chunked"]);
        assert_eq!(answer.text(), "until the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trailers_pass_except_those_that_must_not_trail() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie\r\n\r\n\
          2\r\nok\r\n0\r\nX-Sum: 7\r\nSet-Cookie: evil=1\r\n\r\n",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n").await;
    let answer = String::from_utf8(raw.rest().await).unwrap();
    assert!(answer.to_lowercase().contains("trailer: x-sum\r\n"), "{answer}");
    assert!(answer.to_lowercase().ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    assert!(!answer.contains("evil"), "{answer}");
}

/// What breaks off behind the sidecar breaks off before it: never a clean end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_truncated_answer_is_visibly_truncated() {
    let cases: [(&'static [u8], &str); 3] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "HTTP/1.0"),
    ];
    for (answer, version) in cases {
        let backend = RawBackend::answering(b"\r\n\r\n", answer, true).await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let mut raw = Raw::connect(sidecar.web()).await;
        raw.send(format!("GET / {version}\r\nHost: a\r\n\r\n")).await;
        let mut all = Vec::new();
        let ended = loop {
            let mut buffer = [0; 4096];
            let read = tokio::io::AsyncReadExt::read(&mut raw.stream, &mut buffer);
            match tokio::time::timeout(secs(5), read).await.expect("it ends") {
                Ok(0) => break Ok(()),
                Ok(n) => all.extend_from_slice(&buffer[..n]),
                Err(error) => break Err(error.kind()),
            }
        };
        let text = String::from_utf8_lossy(&all).into_owned();
        let short = text.to_lowercase().contains("content-length: 100")
            && !text.ends_with(&"x".repeat(100));
        let unfinished = text.to_lowercase().contains("chunked") && !text.ends_with("0\r\n\r\n");
        let reset = ended == Err(std::io::ErrorKind::ConnectionReset);
        assert!(short || unfinished || reset, "{version}: {ended:?} {text:?}");
        eventually("the attempt counts as reset", secs(2), || async {
            let resets = sidecar.metric("outrigger_outcomes_total", &[("outcome", "reset")]).await;
            (resets == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn continue_is_the_backends_to_say() {
    // Says 100 after a while; the app must not hear it sooner.
    let backend = Backend::answering(|request| async move {
        tokio::time::sleep(millis(300)).await;
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    let start = tokio::time::Instant::now();
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(raw.head().await.unwrap().status, 100);
    assert!(start.elapsed() >= millis(300), "{:?}", start.elapsed());
    raw.send("hello").await;
    assert_eq!(raw.answer().await.unwrap().text(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_refuses_the_expectation_is_heard_and_the_body_is_not_asked_for() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(raw.head().await.unwrap().status, 413);
    assert!(backend.received().concat().ends_with("\r\n\r\n"), "{:?}", backend.received());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_knows_no_expectation_gets_the_body_after_a_second() {
    let backend =
        RawBackend::answering(b"hello", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false)
            .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    assert_eq!(raw.head().await.unwrap().status, 100);
    raw.send("hello").await;
    assert_eq!(raw.answer().await.unwrap().text(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_early_answer_arrives_and_its_connection_is_used_no_more() {
    // Answers at the end of the head and reads no further.
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    for _ in 0..2 {
        let mut raw = Raw::connect(sidecar.web()).await;
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
        raw.send(vec![b'x'; 50_000]).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
        assert_eq!(answer.header("connection"), ["close"]);
    }
    assert_eq!(backend.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_leaves_frees_the_backend_and_counts_as_cancelled() {
    let backend = Backend::answering(|_| async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Response::new(full("late"))
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is in flight", secs(5), || async {
        let cluster = sidecar.cluster("api").await;
        (cluster["backends"][0]["in_flight"] == 1).then_some(())
    })
    .await;
    drop(raw);
    eventually("it is in flight no more", secs(5), || async {
        let cluster = sidecar.cluster("api").await;
        (cluster["backends"][0]["in_flight"] == 0).then_some(())
    })
    .await;
    let mut counted = Vec::new();
    for outcome in ["cancelled", "reset", "timeout", "success"] {
        let count = sidecar.metric("outrigger_outcomes_total", &[("outcome", outcome)]).await;
        counted.push(count);
    }
    assert_eq!(counted, [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(sidecar.metric("outrigger_requests_total", &[("code", "499")]).await, 1.0);
}
