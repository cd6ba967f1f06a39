//! Answers that come before the request has ended: an error ends it, a success does not.

use outrigger_tests::backend::{ByHand, RawBackend, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{secs, tool};
use tokio::process::Command;

const LARGE: usize = 300_000;

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

/// The app goes on sending for a while after the answer was written, and reads it only then: a
/// close over what it sent would reset the connection and take the answer with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_error_ends_the_upload_and_arrives_whole() {
    for status in ["307 Elsewhere", "403 No", "500 Broken"] {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(post(10_000_000)).await;
        app.send(vec![b'u'; LARGE]).await;
        let mut served = backend.accept().await;
        served.request().await.unwrap();
        served.exactly(LARGE).await;
        served.send(format!("HTTP/1.1 {status}\r\nContent-Length: {LARGE}\r\n\r\n")).await;
        served.send(vec![b'd'; LARGE]).await;
        // Nothing more is sent there, and the end is plain.
        assert!(served.is_closed().await);
        for _ in 0..4 {
            app.send(vec![b'u'; 50_000]).await;
        }
        let answer = app.answer().await.unwrap();
        assert_eq!(answer.status.to_string(), status[..3]);
        assert!(answer.body == vec![b'd'; LARGE], "{}", answer.body.len());
        assert_eq!(answer.header("connection"), ["close"]);
        let (rest, end) = app.rest_and_end().await;
        assert!(rest.is_empty() && end.is_ok(), "{status}: {end:?}");
    }
}

/// The backend closes over what it did not read, so that its kernel resets the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_slams_the_door_is_still_heard() {
    let answer = b"HTTP/1.1 413 Large\r\nContent-Length: 9\r\n\r\ntoo large";
    let backend = RawBackend::answering(b"\r\n\r\n", answer, true).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(20 << 20).unwrap();
    for _ in 0..5 {
        let mut command = Command::new(tool("curl", "curl"));
        command.args(["-sS", "--max-time", "10", "-H", "Expect:", "-w", " %{http_code}", "-T"]);
        command.arg(file.path()).arg(format!("http://{}/", sidecar.web()));
        let output = command.kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!((said.as_ref(), complaint.as_ref()), ("too large 413", ""));
    }
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..50 {
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(format!("{chunked}4000\r\n{}\r\n", "u".repeat(0x4000))).await;
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (413, "too large"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn after_a_success_both_directions_go_on() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(post(9)).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 200);
    for _ in 0..3 {
        app.send("up.").await;
        assert_eq!(served.exactly(3).await, b"up.");
        served.send("down").await;
        assert_eq!(app.exactly(4).await, b"down");
    }
    // Both were whole, so both connections can go on.
    app.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(served.request().await.unwrap().starts_with("GET /next "));
}

/// A backend that does not look at the body, or only counts it, may say so before it has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_success_that_is_complete_early_does_not_end_the_upload() {
    const LENGTH: usize = 8 << 20;
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(post(LENGTH)).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = app.answer().await.unwrap();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("ok", vec![]));
    let body = vec![b'u'; LENGTH];
    let (received, ()) = tokio::join!(served.exactly(LENGTH), app.send(&body));
    assert!(received == body);
    app.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(served.request().await.unwrap().starts_with("GET /next "));
    served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().status, 204);
}

/// Where the backend closes behind its answer, nobody is left to send the rest to.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_success_with_a_close_ends_the_upload() {
    for says_so in [true, false] {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(post(10_000_000)).await;
        app.send(vec![b'u'; LARGE]).await;
        let mut served = backend.accept().await;
        served.request().await.unwrap();
        let connection = if says_so { "Connection: close\r\n" } else { "" };
        served.send(format!("HTTP/1.1 200 OK\r\n{connection}Content-Length: 2\r\n\r\nok")).await;
        served.finish().await;
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        if says_so {
            assert_eq!(answer.header("connection"), ["close"]);
        }
        let closed = tokio::time::timeout(secs(5), app.is_closed()).await;
        assert!(closed.unwrap(), "it waits for a body that nobody will read");
    }
}
