//! Bodies: streamed both ways, whole, at the pace of the slower side.

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use outrigger_tests::backend::{Backend, config};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
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
    let whole = |answer: &[u8]| {
        let head = answer.windows(4).position(|w| w == b"\r\n\r\n");
        head.is_some_and(|head| answer.len() >= head + 4 + payload.len())
    };
    while !whole(&answer) {
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
