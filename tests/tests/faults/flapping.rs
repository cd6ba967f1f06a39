//! A backend that is good and bad by turns.

use std::sync::Arc;
use std::time::Duration;

use outrigger_tests::backend::config;
use outrigger_tests::load::Load;
use outrigger_tests::moody::{BAD, GOOD, Mood, Moody};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

/// A fifth of what it would be: flapping every 2 s, and ejections of 10 s, then 20, then 30.
const TURN: Duration = millis(400);
const RULES: &str = "[clusters.api.outlier]\nbase_ejection = \"2s\"\n";
/// Long enough for three ejections.
const WATCHED: Duration = secs(14);

/// A backend that changes its mood every turn, beginning with the bad one.
fn flap(backend: &Arc<Moody>, bad: Mood) -> JoinHandle<()> {
    let backend = Arc::clone(backend);
    tokio::spawn(async move {
        let mut turns = interval(TURN);
        loop {
            for mood in [bad, GOOD] {
                turns.tick().await;
                backend.becomes(mood);
            }
        }
    })
}

/// The changes of a backend's state, each with its time, as often as it is asked; nobody else's
/// state changes meanwhile.
async fn watch(sidecar: &Sidecar, flapping: &str) -> Vec<(Instant, String)> {
    let mut changes: Vec<(Instant, String)> = Vec::new();
    let started = Instant::now();
    while started.elapsed() < WATCHED {
        for (backend, state) in sidecar.states("api").await {
            if backend != flapping {
                assert_eq!(state, "ready", "{backend}");
            } else if changes.last().is_none_or(|(_, last)| *last != state) {
                changes.push((Instant::now(), state));
            }
        }
        tokio::time::sleep(millis(5)).await;
    }
    changes
}

/// The lengths of a backend's ejections, as the log has them.
fn ejections(sidecar: &Sidecar, backend: &str) -> Vec<String> {
    let log = sidecar.process.log();
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_backend = events.filter(|event| event["backend"] == backend);
    let length = |event: Value| {
        let cause = event["message"].as_str()?.strip_prefix("ejected: ")?.to_owned();
        Some(cause.rsplit_once(" for ")?.1.to_owned())
    };
    of_backend.filter_map(length).collect()
}

/// Each stay is as long as its ejection at least, and each ejection is longer than the last.
fn assert_backs_off(changes: &[(Instant, String)], lengths: &[String]) {
    assert!(lengths.len() >= 3, "{lengths:?}");
    let expected: Vec<String> = (1..=lengths.len()).map(|n| format!("{}s", 2 * n)).collect();
    assert_eq!(lengths, expected);
    let stays: Vec<Duration> = changes
        .windows(2)
        .filter(|pair| pair[0].1 == "ejected")
        .map(|pair| pair[1].0 - pair[0].0)
        .collect();
    println!("ejected for {lengths:?}, away for {stays:?}");
    // One whose trial fails begins the next ejection without a change of state.
    assert!(!stays.is_empty() && stays.len() <= lengths.len(), "{stays:?}");
    for (n, stay) in (1..).zip(&stays) {
        assert!(*stay >= secs(2) * n - millis(100), "{stays:?}: changed within its ejection");
    }
}

/// Three that are always well, one that will not be, and a sidecar before them.
async fn one_of_four() -> ([Moody; 3], Arc<Moody>, Sidecar) {
    let others: [Moody; 3] = Moody::some(GOOD).await;
    let flapping = Arc::new(Moody::start(GOOD).await);
    let mut addresses = others.each_ref().map(|backend| backend.address).to_vec();
    addresses.push(flapping.address);
    let sidecar = Sidecar::ready(&config(&addresses, RULES)).await;
    (others, flapping, sidecar)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_with_errors_by_turns_is_ejected_for_longer_each_time() {
    let (others, flapping, sidecar) = one_of_four().await;
    let load = Load::start(sidecar.web(), 8, 400);
    let turns = flap(&flapping, BAD);
    let changes = watch(&sidecar, &flapping.name()).await;
    turns.abort();
    let tally = load.stop().await;
    let lengths = ejections(&sidecar, &flapping.name());
    assert_backs_off(&changes, &lengths);
    // Five each time, and what was in flight: two workers, eight connections.
    let failures = tally.failures.len();
    assert!(failures <= lengths.len() * (5 * 2 + 8), "{failures}");
    let shares = others.each_ref().map(|backend| tally.share(backend.address));
    let (least, most) =
        (shares.iter().copied().fold(100.0, f64::min), shares.iter().copied().fold(0.0, f64::max));
    assert!(most - least <= 3.0, "{shares:?}");
}

/// An app whose requests may be repeated notices nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_resets_by_turns_costs_no_get() {
    let (_others, flapping, sidecar) = one_of_four().await;
    let load = Load::start(sidecar.web(), 8, 400);
    let turns = flap(&flapping, Mood::Resetting);
    let changes = watch(&sidecar, &flapping.name()).await;
    turns.abort();
    load.stop().await.assert_no_failures();
    assert_backs_off(&changes, &ejections(&sidecar, &flapping.name()));
}
