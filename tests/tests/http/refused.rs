//! How a refusal comes across. What is refused, and that no backend sees it, is the topic `desync`.

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refusal_says_why_and_is_counted() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(answer.text(), "outrigger: bad_request: there is no Host\n");
    assert_eq!(answer.header("x-outrigger-error"), ["bad_request"]);
    assert_eq!(answer.header("connection"), ["close"]);
    let refused = sidecar.metric("outrigger_errors_total", &[("reason", "bad_request")]).await;
    assert_eq!((refused, backend.hits()), (1.0, 0));
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
