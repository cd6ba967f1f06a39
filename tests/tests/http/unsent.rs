//! A request of which no backend has seen a byte goes to the next one whole.

use http::Response;
use http_body_util::BodyExt;
use outrigger_tests::backend::{Backend, config};
use outrigger_tests::raw::exchange;
use outrigger_tests::sidecar::Sidecar;

/// One backend closes every connection as soon as it is there, often before the request is
/// written. On a unix socket the write then fails at once, after the body was already taken from
/// what the app had sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_could_not_be_written_is_still_there_for_the_next_backend() {
    const ENOUGH: f64 = 10.0;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("closing.sock");
    let closing = tokio::net::UnixListener::bind(&path).unwrap();
    let closing = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let echo = Backend::answering(|request| async move {
        Response::new(request.into_body().map_err(|e| panic!("{e}")).boxed())
    })
    .await;
    let both = format!("endpoints = [{{ address = \"unix:{}\" }}, ", path.display());
    let never_ejected = "[clusters.api.outlier]\nenabled = false";
    let config = config(&[echo.address], never_ejected).replace("endpoints = [", &both);
    let sidecar = Sidecar::start(&config).await;
    let sent_again = || sidecar.metric("outrigger_retries_total", &[("result", "success")]);
    let mut requests = 0;
    while sent_again().await < ENOUGH {
        for _ in 0..50 {
            requests += 1;
            let body = format!("body {requests:05}");
            let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
            let answer = exchange(sidecar.web(), format!("{head}{body}")).await;
            match answer.status {
                200 => assert_eq!(answer.text(), body),
                // The backend may have seen it: it is not sent again.
                502 => assert_eq!(answer.header("x-outrigger-error"), ["reset"]),
                other => panic!("{other} for {body}"),
            }
        }
        assert!(requests < 10_000, "no request met a closed connection in time");
    }
    closing.abort();
}
