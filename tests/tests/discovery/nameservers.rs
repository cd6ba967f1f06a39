//! Several nameservers: one that fails costs little time, and that once (RELIABILITY D8).

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::Instant;

use crate::backends;
use crate::faulty::{FaultyDns, Reply, config};
use crate::forged::Forgery;

/// `[dns] timeout` of these tests.
const TIMEOUT: std::time::Duration = millis(500);

/// Starts a sidecar with these nameservers, and says how long it took until it knew its backends,
/// starting itself included.
async fn start(nameservers: &[SocketAddr]) -> (Sidecar, std::time::Duration) {
    let started = Instant::now();
    let sidecar = Sidecar::start(&config(nameservers, "")).await;
    eventually("discovery has answered", secs(5), || async {
        (sidecar.get("/readyz").await.0 == 200).then_some(())
    })
    .await;
    (sidecar, started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_first_nameserver_that_fails_is_asked_once_and_not_waited_for_again() {
    let [a] = backends().await;
    let (mut bad, good) = (FaultyDns::start().await, FaultyDns::start().await);
    good.serve_srv(&[a.address]);
    let (_, alone) = start(&[good.address]).await;
    let faults = [
        Reply::Silence,
        Reply::Code(ResponseCode::ServFail),
        Reply::Code(ResponseCode::Refused),
        Reply::Code(ResponseCode::FormErr),
        Reply::Forged(Forgery::Rest, a.address, vec![]),
        Reply::Forged(Forgery::Loop, a.address, vec![]),
    ];
    for fault in faults {
        bad.set(fault.clone());
        follow(&bad, &good, alone, &format!("{fault:?}")).await;
    }
    bad.stop();
    follow(&bad, &good, alone, "dead").await;
}

async fn follow(bad: &FaultyDns, good: &FaultyDns, alone: std::time::Duration, fault: &str) {
    let (asked_bad, asked_good) = (bad.questions(), good.questions());
    let (sidecar, took) = start(&[bad.address, good.address]).await;
    println!("{fault}: {took:?}, {alone:?} without it");
    assert!(took <= alone + TIMEOUT * 2, "{fault}: {took:?}, {alone:?} without it");
    eventually("the good one is asked thrice more", secs(6), || async {
        (good.questions() >= asked_good + 4).then_some(())
    })
    .await;
    // A silent one is asked again by datagram until the other has answered.
    let asked = bad.questions() - asked_bad;
    assert!(asked <= 2, "{fault}: asked {asked} times");
    assert!(sidecar.cluster("api").await["stale_since"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_last_of_four_is_reached_in_time_and_the_others_when_it_fails() {
    let [a, b] = backends().await;
    let one = FaultyDns::start().await;
    let silent = [FaultyDns::start().await, FaultyDns::start().await];
    let last = FaultyDns::start().await;
    last.serve_srv(&[a.address]);
    let (_, alone) = start(&[last.address]).await;
    let nameservers = [one.address, silent[0].address, silent[1].address, last.address];
    let (sidecar, took) = start(&nameservers).await;
    println!("three silent ones: {took:?}, {alone:?} without them");
    assert!(took <= alone + TIMEOUT * 2, "{took:?}, {alone:?} without them");

    one.serve_srv(&[a.address, b.address]);
    last.set(Reply::Code(ResponseCode::Refused));
    sidecar.until_members("api", vec![a.name(), b.name()], secs(3)).await;
    assert!(sidecar.process.log().contains("another nameserver is asked first"));
}

/// They all know the same, so nobody needs to be asked after one has said no.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_no_of_one_is_a_no() {
    let [a] = backends().await;
    let (first, second) = (FaultyDns::start().await, FaultyDns::start().await);
    first.serve_srv(&[a.address]);
    second.serve_srv(&[a.address]);
    let hold = "[clusters.api]\nremoval_hold = \"disabled\"\n";
    let config = config(&[first.address, second.address], "") + hold;
    let sidecar = Sidecar::ready(&config).await;
    first.set(Reply::NxDomain);
    sidecar.until_members("api", vec![], secs(3)).await;
    assert_eq!(second.questions(), 0);
}
