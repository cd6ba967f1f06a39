//! Trying again: only what is safe, and then without the app noticing.

use outrigger_tests::backend::{Backend, RawBackend, config, unused_port};
use outrigger_tests::raw::exchange;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_connection_goes_to_another_backend_for_every_method() {
    let (alive, dead) = (Backend::start().await, unused_port());
    let never_ejected = "[clusters.api.outlier]\nenabled = false";
    let sidecar = Sidecar::start(&config(&[alive.address, dead], never_ejected)).await;
    for request in [GET, POST] {
        for _ in 0..10 {
            assert_eq!(exchange(sidecar.web(), request).await.status, 200);
        }
    }
    let retries = sidecar.metric("outrigger_retries_total", &[("result", "success")]).await;
    let refused =
        sidecar.metric("outrigger_outcomes_total", &[("outcome", "connect_failed")]).await;
    assert!(retries >= 9.0 && retries == refused, "{retries} retries, {refused} refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_all_refuse_the_app_is_told_at_once() {
    let sidecar = Sidecar::start(&config(&[unused_port(), unused_port()], "")).await;
    let start = tokio::time::Instant::now();
    let answer = exchange(sidecar.web(), GET).await;
    assert_eq!((answer.status, answer.header("x-outrigger-error")), (503, vec!["connect_failed"]));
    assert!(start.elapsed() < outrigger_tests::millis(100), "{:?}", start.elapsed());
}

/// A backend that closes after it has read a request, without a word.
async fn mute() -> RawBackend {
    RawBackend::answering(b"", b"", true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_closed_before_an_answer_is_tried_again_only_if_that_is_harmless() {
    let (alive, mute) = (Backend::start().await, mute().await);
    // One worker, so that the two take exact turns, for as long as they are let.
    let config = config(&[alive.address, mute.address], "[clusters.api.outlier]\nenabled = false")
        + "[runtime]\nworkers = 1\n";
    let sidecar = Sidecar::start(&config).await;
    for _ in 0..10 {
        assert_eq!(exchange(sidecar.web(), GET).await.status, 200);
    }
    // A POST may have been acted upon.
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(exchange(sidecar.web(), POST).await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 502, 502, 502, 502, 502]);
    // PUT is idempotent: it can be repeated, with its body.
    for body in ["", "body"].repeat(5) {
        let length = body.len();
        let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        assert_eq!(exchange(sidecar.web(), put).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn attempts_are_bounded() {
    let mutes = [mute().await, mute().await, mute().await];
    let addresses = mutes.each_ref().map(|backend| backend.address);
    for (setting, expected) in [
        ("", 2),
        ("[clusters.api.retry]\nattempts = 1", 1),
        ("[clusters.api.retry]\nattempts = 3", 3),
    ] {
        let before: usize = mutes.iter().map(|backend| backend.received().len()).sum();
        let sidecar = Sidecar::start(&config(&addresses, setting)).await;
        let answer = exchange(sidecar.web(), GET).await;
        assert_eq!((answer.status, answer.header("x-outrigger-error")), (502, vec!["reset"]));
        let after: usize = mutes.iter().map(|backend| backend.received().len()).sum();
        assert_eq!(after - before, expected, "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_is_not_http_is_a_502_and_not_tried_again() {
    let cases: [&'static [u8]; 4] = [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ];
    for answer in cases {
        let backend = RawBackend::answering(b"\r\n\r\n", answer, false).await;
        let sidecar = Sidecar::start(
            &config(&[backend.address, backend.address], "")
                .replace(&format!(", {{ address = \"{}\" }}", backend.address), ""),
        )
        .await;
        let got = exchange(sidecar.web(), GET).await;
        assert_eq!(
            (got.status, got.header("x-outrigger-error")),
            (502, vec!["upstream_protocol"]),
            "{}",
            String::from_utf8_lossy(answer)
        );
        assert_eq!(backend.received().len(), 1);
        tokio::time::timeout(secs(5), sidecar.get("/livez")).await.unwrap();
    }
}
