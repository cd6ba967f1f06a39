//! Messages that are larger than they may be, many at a time.

use std::net::SocketAddr;

use outrigger_tests::backend::{RawBackend, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

const KIB: usize = 1 << 10;
/// Sent at a time.
const MANY: usize = 50;

/// Sends all of a request while it reads the answer, which may come before the end of the
/// request; `None` when there is none.
async fn push(address: SocketAddr, request: String) -> Option<u16> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sending = tokio::spawn(async move {
        // It is cut somewhere.
        let _ = write.write_all(request.as_bytes()).await;
        write
    });
    let mut answer = Vec::new();
    // A reset after the answer takes nothing of it away.
    let closed = timeout(secs(10), read.read_to_end(&mut answer)).await;
    closed.unwrap_or_else(|_| panic!("not closed: {}", String::from_utf8_lossy(&answer))).ok();
    drop(sending.await);
    let answer = String::from_utf8(answer).unwrap();
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// Sends `MANY` of each request and asserts the status of each answer, that each connection is
/// closed, and what the sidecar holds for them.
async fn push_many(sidecar: &Sidecar, cases: impl IntoIterator<Item = (&str, String, u16)>) {
    let before = sidecar.process.memory();
    for (what, request, status) in cases {
        let mut pushing = JoinSet::new();
        for _ in 0..MANY {
            pushing.spawn(push(sidecar.web(), request.clone()));
        }
        let (peak, answers) = sidecar.process.peak_memory(pushing.join_all()).await;
        assert_eq!(answers, [Some(status); MANY], "{what}");
        let each = (peak - before) / MANY / KIB;
        println!("{what}: {status}, {each} KiB each");
        assert!(each < 256, "{what}: {each} KiB each");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_oversize_head_is_refused_and_reaches_no_backend() {
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let long = |length: usize| "x".repeat(length * KIB);
    let fields = |count: usize| "X-Field: 1\r\n".repeat(count);
    let cases = [
        ("a target of 16 KiB", get(&format!("/{}", long(16)), ""), 414),
        ("a target of 70 KiB", get(&format!("/{}", long(70)), ""), 414),
        ("a target of 10 MiB", get(&format!("/{}", long(10 * KIB)), ""), 414),
        ("a line of 100 KiB", get("/", &format!("X-Long: {}\r\n", long(100))), 431),
        ("a name of 100 KiB", get("/", &format!("{}: x\r\n", long(100))), 431),
        ("101 fields", get("/", &fields(100)), 431),
        ("10,000 fields", get("/", &fields(10_000)), 431),
        ("10,000 folded lines", get("/", &format!("X: 1\r\n{}", " 1\r\n".repeat(10_000))), 400),
        ("a method of 100 KiB", format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", long(100)), 414),
        ("1 MiB of empty lines", "\r\n".repeat(512 * KIB), 400),
    ];
    let backend = RawBackend::answering(b"\r\n\r\n", b"", false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    push_many(&sidecar, cases).await;
    assert_eq!(backend.received(), [""; 0], "no connection was even opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn oversize_parts_of_a_chunked_body_are_refused_and_it_never_looks_whole() {
    let chunked = |body: String| {
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
    };
    let long = |length: usize| "x".repeat(length * KIB);
    let field = format!("X-Trailer: {}\r\n", "y".repeat(1000));
    let cases = [
        ("an extension of 64 KiB", chunked(format!("5;{}\r\nhello\r\n0\r\n\r\n", long(64))), 400),
        (
            "1,000 extensions of 100 bytes",
            chunked(format!("1;{}\r\nx\r\n", "y".repeat(100)).repeat(1000) + "0\r\n\r\n"),
            400,
        ),
        ("a chunk size of 64 KiB", chunked("0".repeat(64 * KIB)), 400),
        (
            "1 MiB of trailers",
            chunked(format!("5\r\nhello\r\n0\r\n{}\r\n", field.repeat(1024))),
            431,
        ),
        (
            "a trailer of 1 MiB",
            chunked(format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", long(KIB))),
            431,
        ),
        ("10,000 trailers", chunked(format!("0\r\n{}\r\n", "X: 1\r\n".repeat(10_000))), 431),
    ];
    let backend = RawBackend::answering(b"never", b"", false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    push_many(&sidecar, cases).await;
    for received in backend.received() {
        assert!(!received.contains("0\r\n\r\n"), "{received}");
        assert!(!received.to_lowercase().contains("trailer"), "{received}");
    }
}

/// The largest that is allowed passes whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_just_not_oversize_passes() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = RawBackend::answering(b"\r\n\r\n", answer, false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    let target = format!("/{}", "x".repeat(8 * KIB - 1));
    let fields = "X-Field: 1\r\n".repeat(99);
    let line = format!("X-Long: {}\r\n", "x".repeat(63 * KIB));
    for request in [
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n"),
    ] {
        raw.send(&request).await;
        assert_eq!(raw.answer().await.unwrap().status, 200, "{}", &request[..40]);
    }
    let received = backend.received().concat();
    for whole in [target.as_str(), &fields, &line] {
        assert!(received.contains(whole), "{}", &whole[..10]);
    }
}
