//! As much work as there may be, and what waits for room.

use futures_util::future::join_all;
use http::Response;
use outrigger_tests::backend::{Backend, ByHand, config, full};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::{Instant, sleep, timeout};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn slow() -> Backend {
    Backend::answering(|_| async {
        sleep(millis(100)).await;
        Response::new(full("slow"))
    })
    .await
}

fn limited(limits: &str, workers: u8) -> String {
    format!("[clusters.api.limits]\n{limits}\n[runtime]\nworkers = {workers}\n")
}

/// One who waited told itself of the room that it had just left, for ever, and its worker served
/// nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_waits_for_a_connection_gets_one_in_time() {
    for (limits, workers) in [
        ("max_connections = 1", 1),
        ("backend_max_connections = 1", 1),
        ("max_connections = 2\nmax_requests = 3", 2),
    ] {
        let backend = slow().await;
        let rules = limited(&format!("{limits}\nqueue_timeout = \"10s\""), workers);
        let sidecar = Sidecar::start(&(config(&[backend.address], "") + &rules)).await;
        let started = Instant::now();
        let answers = join_all((0..12).map(|_| exchange(sidecar.web(), GET)));
        let answers = timeout(secs(8), answers).await.expect("everyone is served");
        assert!(answers.iter().all(|answer| answer.status == 200), "{limits}");
        // One or two at a time, a tenth of a second each.
        assert!(started.elapsed() >= millis(550), "{:?}", started.elapsed());
        let outcomes = sidecar.metric("outrigger_outcomes_total", &[]).await;
        assert_eq!(outcomes, 12.0, "{limits}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_queue_and_a_wait_that_is_too_long_are_an_overflow() {
    let backend = ByHand::listen().await;
    let limits = "max_requests = 1\nqueue = 1\nqueue_timeout = \"300ms\"";
    let sidecar = Sidecar::start(&(config(&[backend.address], "") + &limited(limits, 1))).await;
    let mut first = Raw::connect(sidecar.web()).await;
    first.send(GET).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    let started = Instant::now();
    let mut queued = Raw::connect(sidecar.web()).await;
    queued.send(GET).await;
    let refused = eventually("the queue is full", secs(2), || async {
        let answer = exchange(sidecar.web(), GET).await;
        (started.elapsed() < millis(250)).then_some(answer)
    })
    .await;
    let late = queued.answer().await.unwrap();
    for answer in [&refused, &late] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, vec!["1"]));
        assert_eq!(answer.header("x-outrigger-error"), ["overflow"]);
    }
    assert!(started.elapsed() >= millis(300));
    served.send(OK).await;
    assert_eq!(first.answer().await.unwrap().status, 200);
}

/// Its body lies in our buffer, so that nothing more is read of the socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_is_gone_when_its_turn_comes_never_reaches_a_backend() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    for request in [GET, post] {
        let backend = ByHand::listen().await;
        let limits = limited("max_requests = 1", 1);
        let sidecar = Sidecar::start(&(config(&[backend.address], "") + &limits)).await;
        let mut first = Raw::connect(sidecar.web()).await;
        first.send(GET).await;
        let mut served = backend.accept().await;
        served.request().await.unwrap();
        let mut gone = Raw::connect(sidecar.web()).await;
        gone.send(request).await;
        // Whether its head has been read by then or not, it is gone.
        gone.reset();
        served.send(OK).await;
        assert_eq!(first.answer().await.unwrap().status, 200);
        let mut next = Raw::connect(sidecar.web()).await;
        next.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let seen = served.request().await.unwrap();
        assert!(seen.starts_with("GET /next "), "{seen}");
        served.send(OK).await;
        assert_eq!(next.answer().await.unwrap().status, 200);
    }
}
