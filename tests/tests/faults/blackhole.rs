//! Packets to one of four are dropped: nobody accepts a connection and nobody refuses it.

use std::time::Duration;

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::load::{Load, percentile};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::vanishing::Vanishing;
use outrigger_tests::{millis, secs};

const CONNECT: Duration = secs(1);

/// Nothing was sent, so every request may go elsewhere, a POST too.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_costs_the_connect_timeout_and_no_request() {
    let hole = Vanishing::start().await;
    hole.vanish();
    let others = [Backend::start().await, Backend::start().await, Backend::start().await];
    let mut addresses = others.each_ref().map(|backend| backend.address).to_vec();
    addresses.push(hole.address);
    let sidecar = Sidecar::ready(&config(&addresses, "")).await;
    let gets = Load::start(sidecar.web(), 32, 300);
    let posts = Load::start_with(sidecar.web(), 32, 300, "POST");
    sidecar.until_state("api", &hole.name(), "ejected", CONNECT + secs(1)).await;
    let ejected = gets.started.elapsed();
    tokio::time::sleep_until(gets.started + ejected + secs(2)).await;
    let late = sidecar.picks("api", &hole.name()).await;
    tokio::time::sleep_until(gets.started + ejected + secs(3)).await;
    assert_eq!(sidecar.picks("api", &hole.name()).await, late, "it is tried while it is ejected");
    hole.come_back();
    sidecar.until_state("api", &hole.name(), "ready", secs(10)).await;
    let (gets, posts) = (gets.stop().await, posts.stop().await);
    for tally in [&gets, &posts] {
        tally.assert_no_failures();
        let first = tally.times(secs(0)..ejected);
        let met: Vec<_> = first.iter().filter(|took| **took >= CONNECT).collect();
        let others = &first[..first.len() - met.len()];
        let usual = percentile(others, 50);
        let added = |took: Duration| took.saturating_sub(CONNECT);
        let (median, worst) = (added(*met[met.len() / 2]), added(**met.last().unwrap()));
        println!(
            "{} of {} met it: {median:?} more than the timeout, at most {worst:?}; \
             the others took {usual:?}",
            met.len(),
            first.len()
        );
        assert!(met.len() * 3 <= first.len(), "{} of {}", met.len(), first.len());
        // It takes the timeout, what others take on this machine, and 10 ms; nobody waits twice.
        assert!(median <= millis(10) + usual, "{median:?} more, others {usual:?}");
        assert!(worst < CONNECT / 2, "{worst:?} more");
        let after = tally.times(ejected + CONNECT..secs(60));
        assert!(*after.last().unwrap() < CONNECT, "{:?}", after.last());
    }
}
