//! Time: every wait has an end.

use http::Response;
use outrigger_tests::backend::{Backend, RawBackend, config, full};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::Instant;

/// Deadlines are met up to 0.2 s late, and a machine that runs other tests adds some.
const LATE: std::time::Duration = millis(1500);

fn with_listener(config: &str, timeouts: &str) -> String {
    config.replace(
        "cluster = \"api\"\n",
        &format!("cluster = \"api\"\ntimeouts = {{ {timeouts} }}\n"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_head_is_cut_with_408() {
    let backend = Backend::start().await;
    let config = with_listener(&config(&[backend.address], ""), "head = \"700ms\", idle = \"5s\"");
    let sidecar = Sidecar::start(&config).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    let start = Instant::now();
    // A byte now and then does not help: the head as a whole has its time.
    let answer = async {
        raw.send("GET / HTTP/1.1\r\nX: ").await;
        loop {
            tokio::select! {
                answer = raw.answer() => break answer,
                () = tokio::time::sleep(millis(200)) => raw.send("y").await,
            }
        }
    };
    assert_eq!(answer.await.unwrap().status, 408);
    assert!(raw.is_closed().await);
    let took = start.elapsed();
    assert!(took >= millis(700) && took <= millis(700) + LATE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let backend = Backend::answering(|_| async {
        tokio::time::sleep(secs(2)).await;
        Response::new(full("slow"))
    })
    .await;
    let config = with_listener(&config(&[backend.address], ""), "idle = \"500ms\"");
    let sidecar = Sidecar::start(&config).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().text(), "slow");
    let start = Instant::now();
    assert!(raw.is_closed().await);
    assert!(start.elapsed() >= millis(450) && start.elapsed() <= millis(500) + LATE);
    // One that never says a word is idle too.
    let mut raw = Raw::connect(sidecar.web()).await;
    assert!(raw.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_does_not_answer_is_a_504() {
    let backend = RawBackend::answering(b"never", b"", false).await;
    let extra = "[clusters.api.timeouts]\nresponse = \"500ms\"";
    let sidecar = Sidecar::start(&config(&[backend.address], extra)).await;
    let start = Instant::now();
    let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("x-outrigger-error")), (504, vec!["timeout"]));
    assert!(start.elapsed() >= millis(500) && start.elapsed() <= millis(500) + LATE);
    assert_eq!(sidecar.metric("outrigger_outcomes_total", &[("outcome", "timeout")]).await, 1.0);
    assert_eq!(backend.received().len(), 1, "it is not tried again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_that_pauses_is_a_408_and_a_slow_one_is_not() {
    let backend = Backend::answering(|request| async {
        use http_body_util::BodyExt;
        let body = request.into_body().collect().await;
        Response::new(full(body.map(|b| b.to_bytes()).unwrap_or_default()))
    })
    .await;
    let extra = "[clusters.api.timeouts]\nresponse = \"1500ms\"";
    let config = with_listener(&config(&[backend.address], extra), "body_idle = \"1200ms\"");
    let sidecar = Sidecar::start(&config).await;

    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").await;
    // Longer in all than either timeout allows for a pause.
    for _ in 0..8 {
        tokio::time::sleep(millis(300)).await;
        raw.send("x").await;
    }
    assert_eq!(raw.answer().await.unwrap().text(), "xxxxxxxx");

    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nx").await;
    let answer = raw.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("x-outrigger-error")), (408, vec!["bad_request"]));
    assert!(raw.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_pauses_too_long_is_cut() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        false,
    )
    .await;
    let extra = "[clusters.api.timeouts]\nstream_idle = \"500ms\"";
    let sidecar = Sidecar::start(&config(&[backend.address], extra)).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    let start = Instant::now();
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.head().await.unwrap().status, 200);
    assert_eq!(raw.rest().await, b"half");
    assert!(start.elapsed() >= millis(500) && start.elapsed() <= millis(500) + LATE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_does_not_read_is_cut() {
    let backend = Backend::answering(|_| async { Response::new(full(vec![b'x'; 64 << 20])) }).await;
    let config = with_listener(&config(&[backend.address], ""), "write_stall = \"500ms\"");
    let sidecar = Sidecar::start(&config).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    outrigger_tests::eventually("the connection is cut", millis(500) + secs(3), || async {
        let active = sidecar.metric("outrigger_connections_active", &[("listener", "web")]).await;
        (active == 0.0).then_some(())
    })
    .await;
}
