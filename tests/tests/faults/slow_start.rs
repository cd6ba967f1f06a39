//! Backends that join late get their share step by step.

use std::time::Duration;

use outrigger_tests::backend::config;
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::load::Load;
use outrigger_tests::moody::{BAD, GOOD, Moody};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::{Instant, sleep_until};

const WINDOW: Duration = secs(5);
const SLOW_START: &str = "[clusters.api.slow_start]\nwindow = \"5s\"\n";

/// The share that the last of three has of the traffic until then, of an even one.
async fn share_until(end: Instant, backends: [&Moody; 3]) -> f64 {
    let before = backends.map(Moody::hits);
    sleep_until(end).await;
    let hits: Vec<usize> =
        backends.iter().zip(before).map(|(backend, before)| backend.hits() - before).collect();
    hits[2] as f64 * 3.0 / hits.iter().sum::<usize>() as f64
}

/// From a tenth at its beginning to all of it at the end of the window.
async fn assert_grows(since: Instant, backends: [&Moody; 3]) {
    let first = share_until(since + WINDOW / 10, backends).await;
    let middle = share_until(since + WINDOW, backends).await;
    sleep_until(since + WINDOW + secs(1)).await;
    let after = share_until(since + WINDOW + secs(3), backends).await;
    println!("{first:.2} of its share, then {middle:.2}, after the window {after:.2}");
    // A tenth of its weight is 0.14 of its share, since the others have what it has not.
    assert!((0.05..=0.4).contains(&first), "{first:.2} of its share in the first tenth");
    assert!((0.4..=0.9).contains(&middle), "{middle:.2} of its share in the window");
    assert!((0.95..=1.05).contains(&after), "{after:.2} of its share after the window");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_discovery_finds_late_begins_with_a_tenth_of_its_share() {
    let backends: [Moody; 3] = Moody::some(GOOD).await;
    let [a, b, late] = &backends;
    let bind = Bind::start(&(srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b"))).await;
    let sidecar = Sidecar::ready(&bind.config(SLOW_START)).await;
    let load = Load::start(sidecar.web(), 8, 500);
    sleep_until(load.started + secs(1)).await;
    // Those that were there at the start have had their share from the first moment.
    let (of_a, of_b) = (a.hits() as f64, b.hits() as f64);
    assert!((0.9..=1.1).contains(&(of_a / of_b)), "{of_a} and {of_b}");
    bind.update(&format!(
        "update add late.{ZONE}. 1 A 127.0.0.1\nupdate add {SERVICE}. 1 SRV 10 1 {} late.{ZONE}.",
        late.address.port()
    ))
    .await;
    sidecar.until_members("api", vec![a.name(), b.name(), late.name()], secs(5)).await;
    assert_grows(Instant::now(), [a, b, late]).await;
    load.stop().await.assert_no_failures();
}

/// Its caches are as cold as those of one that is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn so_does_one_that_is_back_from_failed_probes() {
    let backends: [Moody; 3] = Moody::some(GOOD).await;
    let [a, b, back] = &backends;
    let addresses = backends.each_ref().map(|backend| backend.address);
    let check = "[clusters.api.health]\nprobe = \"http\"\ninterval = \"200ms\"\n";
    let sidecar = Sidecar::ready(&config(&addresses, &format!("{SLOW_START}{check}"))).await;
    let load = Load::start(sidecar.web(), 8, 500);
    let even = share_until(load.started + secs(1), [a, b, back]).await;
    assert!((0.9..=1.1).contains(&even), "{even:.2} of its share at the start");
    back.becomes(BAD);
    sidecar.until_state("api", &back.name(), "unhealthy", secs(5)).await;
    back.becomes(GOOD);
    sidecar.until_state("api", &back.name(), "ready", secs(5)).await;
    assert_grows(Instant::now(), [a, b, back]).await;
    load.stop().await;
}
