//! SIGSTOP: its kernel goes on accepting connections and requests, and nobody answers.

use std::time::Duration;

use outrigger_tests::backend::config;
use outrigger_tests::load::{Load, percentile};
use outrigger_tests::nginx::Nginx;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use rustix::process::Signal;

/// A share that has moved away, or a request that moves, does so within this time.
const MOVED: Duration = secs(1);

async fn start(count: usize) -> (Vec<Nginx>, Sidecar) {
    let mut backends = Vec::new();
    for _ in 0..count {
        backends.push(Nginx::start().await);
    }
    let addresses: Vec<_> = backends.iter().map(|nginx| nginx.address).collect();
    let sidecar = Sidecar::ready(&config(&addresses, "")).await;
    (backends, sidecar)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_waits_for_a_stopped_backend_moves_and_the_rest_does_not_notice() {
    const LOOK: Duration = secs(3);
    // So many that none has to catch up after it has waited for a stall to be found.
    const CONNECTIONS: u32 = 160;
    const PER_SECOND: u32 = 400;
    let (mut others, mut usual) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (backends, sidecar) = start(4).await;
        // Another, that nothing happens to: it shows what the machine does meanwhile.
        let (_unharmed, control) = start(4).await;
        let victim = backends[1].name();
        let load = Load::start(sidecar.web(), CONNECTIONS, PER_SECOND);
        let beside = Load::start(control.web(), CONNECTIONS, PER_SECOND);
        tokio::time::sleep_until(load.started + secs(1)).await;
        let before = sidecar.picks("api", &victim).await;
        backends[1].process.signal(Signal::STOP);
        let stopped = load.started.elapsed();
        tokio::time::sleep_until(load.started + stopped + LOOK).await;
        let labels = [("backend", &*victim), ("outcome", "timeout")];
        let moved = sidecar.metric("outrigger_outcomes_total", &labels).await as usize;
        let picks = sidecar.picks("api", &victim).await - before;
        backends[1].process.signal(Signal::CONT);
        let (tally, beside) = (load.stop().await, beside.stop().await);
        tally.assert_no_failures();
        assert!(tally.slowest < MOVED, "{:?}", tally.slowest);
        let late = tally.times(stopped + MOVED..stopped + LOOK);
        assert!(*late.last().unwrap() < millis(250), "still waiting for it: {:?}", late.last());
        // What was on it, and what came before it was noticed: its share of less than a second.
        assert!(picks <= f64::from(PER_SECOND / 4), "{picks} picks");
        let mut unmoved = tally.times(stopped..stopped + LOOK);
        unmoved.truncate(unmoved.len() - moved);
        println!("{moved} moved of {picks} picks, the slowest took {:?}", tally.slowest);
        others.extend(unmoved);
        usual.extend(beside.times(stopped..stopped + LOOK));
    }
    others.sort_unstable();
    usual.sort_unstable();
    let (others, usual) = (percentile(&others, 99), percentile(&usual, 99));
    println!("p99 {others:?}, elsewhere {usual:?}");
    assert!(others <= usual.mul_f64(1.2), "p99 {others:?}, elsewhere {usual:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_of_three_is_not_picked_after_a_second() {
    let (backends, sidecar) = start(3).await;
    let victim = &backends[1];
    let load = Load::start(sidecar.web(), 64, 1000);
    tokio::time::sleep_until(load.started + secs(1)).await;
    victim.process.signal(Signal::STOP);
    let stopped = load.started.elapsed();
    tokio::time::sleep_until(load.started + stopped + MOVED).await;
    let picks = sidecar.picks("api", &victim.name()).await;
    tokio::time::sleep_until(load.started + stopped + secs(5)).await;
    assert_eq!(sidecar.picks("api", &victim.name()).await, picks);
    load.stop().await.assert_no_failures();
    victim.process.signal(Signal::CONT);
}
