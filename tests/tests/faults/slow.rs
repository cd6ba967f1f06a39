//! A backend that answers, but late.

use std::time::Duration;

use outrigger_tests::backend::config;
use outrigger_tests::load::{Load, Tally};
use outrigger_tests::moody::{Mood, Moody};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::sleep;

const FAST: Mood = Mood::Good(millis(2));
const SLOW: Mood = Mood::Good(millis(502));
const TURNS: usize = 5;

/// Enough traffic that the requests which find out how slow the slow backend is, of which there
/// are always a few, are less than one in a hundred.
async fn load(sidecar: &Sidecar, seconds: u64) -> Tally {
    let load = Load::start(sidecar.web(), 64, 1500);
    sleep(secs(seconds)).await;
    let tally = load.stop().await;
    tally.assert_no_failures();
    tally
}

/// What p99 is held against: the same traffic through a second sidecar, which knows only the three
/// fast backends. They have it by turns of a second, and the medians of their p99 are compared, so
/// that whatever else the machine does makes both late.
async fn assert_left_alone(policy: &str) {
    let backends: [Moody; 4] = Moody::some(FAST).await;
    let addresses = backends.each_ref().map(|backend| backend.address);
    let setting = format!("policy = \"{policy}\"");
    let all = Sidecar::ready(&config(&addresses, &setting)).await;
    let fast_only = Sidecar::ready(&config(&addresses[1..], &setting)).await;
    let slow = addresses[0];
    let before = load(&all, 1).await.share(slow);
    assert!((15.0..=35.0).contains(&before), "{before:.1} % while it was fast");

    backends[0].becomes(SLOW);
    let share = load(&all, 5).await.share(slow);
    let (mut with_slow, mut without) = (Vec::new(), Vec::new());
    let mut later = 0.0;
    for _ in 0..TURNS {
        without.push(load(&fast_only, 1).await.percentile(99));
        let tally = load(&all, 1).await;
        with_slow.push(tally.percentile(99));
        later += tally.share(slow) / TURNS as f64;
    }
    println!("{policy}: {share:.2} %, then {later:.2} %; p99 {with_slow:?}, without {without:?}");
    assert!(share <= 10.0, "{share:.1} % within 5 s");
    let (p99, fast_p99) = (median(with_slow), median(without));
    assert!(p99 <= fast_p99.mul_f64(1.5), "p99 {p99:?}, {fast_p99:?} without the slow backend");
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn least_request_moves_the_share_of_a_slow_backend_elsewhere() {
    assert_left_alone("least_request").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn peak_ewma_moves_the_share_of_a_slow_backend_elsewhere() {
    assert_left_alone("peak_ewma").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn round_robin_keeps_turns_whatever_the_latency() {
    let backends: [Moody; 4] = Moody::some(FAST).await;
    backends[0].becomes(SLOW);
    let addresses = backends.each_ref().map(|backend| backend.address);
    let sidecar = Sidecar::ready(&config(&addresses, "policy = \"round_robin\"")).await;
    let load = Load::start(sidecar.web(), 64, 200);
    sleep(secs(3)).await;
    let tally = load.stop().await;
    tally.assert_no_failures();
    let share = tally.share(addresses[0]);
    assert!((24.0..=26.0).contains(&share), "{share:.1} %");
}
