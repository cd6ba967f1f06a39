//! A second backend is asked when the first is late.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use http_body_util::{BodyExt, Full};
use outrigger_tests::backend::{Backend, config};
use outrigger_tests::raw::exchange;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::Instant;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// A backend that takes a second for everything, and how often it was asked.
async fn slow() -> (Backend, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = Backend::answering(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(secs(1)).await;
            let body = Full::from("slow").map_err(|never| match never {});
            Response::new(body.boxed())
        }
    })
    .await;
    (backend, asked)
}

fn hedged(extra: &str) -> String {
    format!("[clusters.api.retry]\nhedge_after = \"50ms\"\n{extra}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_answer_counts() {
    let ((slow, asked), fast) = (slow().await, Backend::start().await);
    let sidecar =
        Sidecar::start(&config(&[slow.address, fast.address], &hedged("budget = \"100%\""))).await;
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(exchange(sidecar.web(), GET).await.status, 200);
        let took = started.elapsed();
        assert!(took < millis(700), "{took:?}");
    }
    let asked_first = asked.load(Ordering::SeqCst);
    assert!((8..=12).contains(&asked_first), "{asked_first} of 20");
    // Those that lost are cancelled, which is no fault of theirs.
    let cancelled = [("backend", &*slow.name()), ("outcome", "cancelled")];
    let cancelled = sidecar.metric("outrigger_outcomes_total", &cancelled).await;
    assert_eq!(cancelled, asked_first as f64);
    assert_eq!(sidecar.metric("outrigger_eligible_backends", &[]).await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_may_not_be_seen_twice_waits() {
    let ((slow, asked), fast) = (slow().await, Backend::start().await);
    // One worker, so that the two take exact turns.
    let config = config(&[slow.address, fast.address], &hedged("budget = \"100%\""))
        + "[runtime]\nworkers = 1\n";
    let sidecar = Sidecar::start(&config).await;
    let mut late = 0;
    for _ in 0..4 {
        let started = Instant::now();
        assert_eq!(exchange(sidecar.web(), POST).await.status, 200);
        late += usize::from(started.elapsed() > millis(900));
    }
    assert_eq!((late, asked.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hedges_draw_on_the_budget() {
    let ((slow, asked), (other, asked_too)) = (slow().await, slow().await);
    let rules = hedged("budget = \"0%\"\nmin_per_second = 0");
    let sidecar = Sidecar::start(&config(&[slow.address, other.address], &rules)).await;
    for _ in 0..3 {
        assert_eq!(exchange(sidecar.web(), GET).await.status, 200);
    }
    assert_eq!(asked.load(Ordering::SeqCst) + asked_too.load(Ordering::SeqCst), 3);
    let exhausted = [("result", "budget_exhausted")];
    assert_eq!(sidecar.metric("outrigger_retries_total", &exhausted).await, 3.0);
}
