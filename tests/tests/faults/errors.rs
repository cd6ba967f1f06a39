//! Backends that answer with errors.

use outrigger_tests::backend::config;
use outrigger_tests::load::{Load, burst};
use outrigger_tests::moody::{BAD, GOOD, Mood, Moody};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::time::sleep;

/// Of the load, and so the most that can be in flight.
const CONNECTIONS: u32 = 8;
const WORKERS: usize = 2;
const WITH_WORKERS: &str = "[runtime]\nworkers = 2\n";

fn addresses<const N: usize>(backends: &[Moody; N]) -> [std::net::SocketAddr; N] {
    backends.each_ref().map(|backend| backend.address)
}

/// How often backends were ejected for a reason.
async fn ejections(sidecar: &Sidecar, reason: &str) -> f64 {
    sidecar.metric("outrigger_ejections_total", &[("reason", reason)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn five_errors_in_a_row_eject_a_backend() {
    let backends: [Moody; 4] = Moody::some(GOOD).await;
    let config = config(&addresses(&backends), "") + WITH_WORKERS;
    let sidecar = Sidecar::ready(&config).await;
    let load = Load::start(sidecar.web(), CONNECTIONS, 400);
    sleep(secs(1)).await;
    let bad = &backends[1];
    bad.becomes(BAD);
    sidecar.until_state("api", &bad.name(), "ejected", secs(2)).await;
    let at_ejection = bad.hits();
    sleep(secs(2)).await;
    let tally = load.stop().await;
    let failures = tally.failures.len();
    println!("{failures} errors were seen");
    assert!((5..=5 * WORKERS + CONNECTIONS as usize).contains(&failures), "{:?}", tally.failures);
    // Those that were picked before.
    let later = bad.hits() - at_ejection;
    assert!(later <= CONNECTIONS as usize, "{later} requests after the ejection");
    assert_eq!(ejections(&sidecar, "consecutive").await, 1.0);
    assert_eq!(sidecar.metric("outrigger_eligible_backends", &[]).await, 3.0);
}

/// It never fails more than three times in a row: only its rate gives it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_fails_most_of_the_time_is_ejected_for_its_success_rate() {
    let backends: [Moody; 4] = Moody::some(GOOD).await;
    let sidecar = Sidecar::ready(&config(&addresses(&backends), "")).await;
    // One connection, so that its answers come in the order in which they were made.
    let load = Load::start(sidecar.web(), 1, 200);
    sleep(secs(1)).await;
    backends[2].becomes(Mood::Flaky(7));
    sidecar.until_state("api", &backends[2].name(), "ejected", secs(10)).await;
    let cluster = sidecar.cluster("api").await;
    let ejected = cluster["backends"].as_array().unwrap().iter().find(|b| b["state"] == "ejected");
    let reason = ejected.unwrap()["reason"].as_str().unwrap();
    assert!(reason.starts_with("success_rate until "), "{reason}");
    assert_eq!(ejections(&sidecar, "success_rate").await, 1.0);
    assert_eq!(ejections(&sidecar, "consecutive").await, 0.0);
    let tally = load.stop().await;
    assert!(tally.failures.len() >= 10, "{}", tally.failures.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_two_the_good_one_stays_and_the_last_one_too() {
    let backends: [Moody; 2] = Moody::some(GOOD).await;
    let [stays, goes] = &backends;
    let sidecar = Sidecar::ready(&config(&addresses(&backends), "")).await;
    goes.becomes(BAD);
    // Its errors are the app's until it goes.
    burst(sidecar.web(), 1, 50).await;
    sidecar.until_state("api", &goes.name(), "ejected", secs(2)).await;
    let tally = burst(sidecar.web(), 4, 100).await;
    tally.assert_no_failures();
    assert_eq!(tally.of(stays.address), 400);

    // There is nobody better: its errors are answers, too.
    stays.becomes(BAD);
    let tally = burst(sidecar.web(), 4, 100).await;
    assert_eq!(tally.failures.len(), 400);
    let own = |failure: &(_, String)| failure.1 != "500 Internal Server Error None";
    assert!(!tally.failures.iter().any(own), "{:?}", tally.failures);
    sidecar.until_state("api", &stays.name(), "ready", secs(1)).await;
    stays.becomes(GOOD);
    burst(sidecar.web(), 4, 100).await.assert_no_failures();
}

/// However many may be ejected: one stays, and beside it the others are used in panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_all_fail_all_are_used() {
    let backends: [Moody; 4] = Moody::some(BAD).await;
    let rules = "[clusters.api.outlier]\nmax_ejected = \"100%\"\nbase_ejection = \"1s\"\n";
    let sidecar = Sidecar::ready(&config(&addresses(&backends), rules)).await;
    let load = Load::start(sidecar.web(), CONNECTIONS, 400);
    eventually("three are ejected", secs(5), || async {
        let states = sidecar.states("api").await;
        (states.iter().filter(|(_, state)| state == "ejected").count() == 3).then_some(())
    })
    .await;
    assert_eq!(sidecar.metric("outrigger_panic", &[]).await, 1.0);
    assert_eq!(sidecar.metric("outrigger_eligible_backends", &[]).await, 1.0);
    let before = backends.each_ref().map(Moody::hits);
    sleep(secs(1)).await;
    let used = |(backend, before): (&Moody, &usize)| backend.hits() - before;
    let used: Vec<usize> = backends.iter().zip(&before).map(used).collect();
    assert!(used.iter().all(|hits| *hits >= 40), "{used:?} of 400");

    backends.iter().for_each(|backend| backend.becomes(GOOD));
    eventually("all are ready", secs(10), || async {
        sidecar.states("api").await.iter().all(|(_, state)| state == "ready").then_some(())
    })
    .await;
    let tally = load.stop().await;
    let own = |failure: &(_, String)| failure.1 != "500 Internal Server Error None";
    assert!(!tally.failures.iter().any(own), "{:?}", tally.failures.iter().find(|f| own(f)));
    burst(sidecar.web(), 4, 100).await.assert_no_failures();
}
