//! Retries when everything fails: they must not become the load that keeps it failing.

use http::StatusCode;
use outrigger_tests::backend::config;
use outrigger_tests::load::Load;
use outrigger_tests::moody::{Mood, Moody};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::sleep;

/// `budget` and `min_per_second` by default; the latter over ten seconds.
const SHARE: f64 = 1.2;
const FLOOR: f64 = 3.0 * 10.0;

/// Every request fails and could be tried again: the backends get at most a fifth more.
async fn storm(mood: Mood, rules: &str) {
    let backends: [Moody; 4] = Moody::some(mood).await;
    let addresses = backends.each_ref().map(|backend| backend.address);
    let sidecar = Sidecar::ready(&config(&addresses, rules)).await;
    let load = Load::start(sidecar.web(), 16, 400);
    sleep(secs(5)).await;
    let tally = load.stop().await;
    assert_eq!(tally.by_backend.len(), 0, "{:?}", tally.by_backend);
    let requests = tally.total() as f64;
    assert!(requests > 1000.0, "{requests}");
    let attempts: usize = backends.iter().map(Moody::hits).sum();
    let attempts = attempts as f64;
    let exhausted = [("result", "budget_exhausted")];
    let exhausted = sidecar.metric("outrigger_retries_total", &exhausted).await;
    println!(
        "{requests} requests, {attempts} attempts ({:.2}), {exhausted} denied",
        attempts / requests
    );
    assert!(attempts <= requests * SHARE + FLOOR, "{attempts} for {requests}");
    assert!(attempts >= requests * 1.1, "{attempts} for {requests}: they are hardly tried again");
    // Each was tried again, or it is counted that it was not.
    assert_eq!(attempts + exhausted, 2.0 * requests);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn retries_of_a_503_are_a_fifth_of_the_requests() {
    let mood = Mood::Failing(StatusCode::SERVICE_UNAVAILABLE);
    storm(mood, "[clusters.api.retry]\non_status = [\"503\"]").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn so_are_those_after_a_reset() {
    storm(Mood::Resetting, "").await;
}
