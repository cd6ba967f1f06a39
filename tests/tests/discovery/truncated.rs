//! Answers that do not fit: over TCP they arrive whole, and otherwise not at all (RELIABILITY D4).

use std::net::SocketAddr;

use outrigger_tests::bind::{Bind, srv};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::Instant;

use crate::backends;
use crate::faulty::{FaultyDns, Questions, Tcp, config};

/// A thousand backends, of which one is there, in the first tier.
fn thousand(there: SocketAddr) -> String {
    let far = |i| format!("_api._tcp IN SRV 20 1 {} far\n", 10_000 + i);
    (0..999).map(far).collect::<String>() + "far IN A 127.0.0.2\n" + &srv(10, 1, there, "a")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_records_arrive_whole_over_tcp() {
    let [a] = backends().await;
    let bind = Bind::start(&thousand(a.address)).await;
    for tcp in [false, true] {
        let config = bind.config("").replace("[dns]", &format!("[dns]\ntcp = {tcp}"));
        let sidecar = Sidecar::ready(&config).await;
        assert_eq!(sidecar.states("api").await.len(), 1000);
        let tally = burst(sidecar.web(), 1, 50).await;
        assert_eq!(tally.of(a.address), 50);
    }
}

/// From one backend to a thousand in one answer, while there is traffic.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_at_once_cost_little_time_and_memory() {
    let [a] = backends().await;
    let dns = FaultyDns::start().await;
    dns.truncate(1, Tcp::Answered);
    dns.set_first_tier(1);
    dns.serve_srv(&[a.address]);
    let sidecar = Sidecar::ready(&dns.config()).await;
    burst(sidecar.web(), 6, 500).await;
    let few = burst(sidecar.web(), 1, 2000).await.percentile(50);
    let load = Load::start(sidecar.web(), 6, 300);
    let before = sidecar.process.memory();

    let far = (0..999).map(|i| SocketAddr::from(([127, 0, 0, 1], 1 + i)));
    let many: Vec<SocketAddr> = [a.address].into_iter().chain(far).collect();
    dns.serve_srv(&many);
    let asked = dns.questions_by_transport().tcp;
    eventually("it is asked over TCP", secs(3), || async {
        (dns.questions_by_transport().tcp > asked).then_some(())
    })
    .await;
    let sent = Instant::now();
    // The log says so when the change is made, and reading it costs the sidecar nothing.
    let joined = |line: &str| line.contains("joined: 935 more").then_some(());
    sidecar.process.line(secs(3), joined).await;
    let applied = sent.elapsed();
    let asked = dns.questions_by_transport().tcp;
    eventually("it is asked twice more", secs(5), || async {
        (dns.questions_by_transport().tcp >= asked + 2).then_some(())
    })
    .await;
    let grown = sidecar.process.memory().saturating_sub(before) >> 10;
    load.stop().await.assert_no_failures();
    assert_eq!(sidecar.states("api").await.len(), 1000);
    let many = burst(sidecar.web(), 1, 2000).await.percentile(50);
    println!("applied after {applied:?}, {grown} KiB more, median {few:?} and then {many:?}");
    assert!(applied <= millis(250), "{applied:?}");
    assert!(many <= few.mul_f64(1.5), "{few:?} and then {many:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn more_than_are_taken_are_left_out_with_a_warning() {
    // 50 addresses behind each of 110 ports.
    let zone: String = (0..110)
        .map(|i| format!("_api._tcp IN SRV 10 1 {} many\n", 10_000 + i))
        .chain((1..=50).map(|i| format!("many IN A 127.0.9.{i}\n")))
        .collect();
    let bind = Bind::start(&zone).await;
    let sidecar = Sidecar::ready(&bind.config("")).await;
    assert_eq!(sidecar.states("api").await.len(), 5000);
    let log = sidecar.process.log();
    let warned = log.lines().find(|line| line.contains("discovery gave too many endpoints"));
    let warned = warned.unwrap_or_else(|| panic!("{log}"));
    assert!(warned.contains("\"left_out\":500") && warned.contains("WARN"), "{warned}");
}

/// What a server sends of an answer that it has cut short is no account of who is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_part_of_an_answer_takes_nobody_away() {
    let all: [_; 4] = backends().await;
    let dns = FaultyDns::start().await;
    let addresses: Vec<SocketAddr> = all.iter().map(|backend| backend.address).collect();
    let members: Vec<String> = all.iter().map(|backend| backend.name()).collect();
    dns.serve_srv(&addresses);
    // Nothing is held: a part that counted would show.
    let held = "[clusters.api]\nremoval_hold = \"disabled\"\n";
    let sidecar = Sidecar::ready(&(dns.config() + held)).await;
    sidecar.until_members("api", members.clone(), secs(1)).await;
    assert_eq!(dns.payload(), 1232);
    let load = Load::start(sidecar.web(), 6, 300);
    for tcp in [Tcp::Closed, Tcp::Silent, Tcp::Truncated] {
        // Also none at all, which is not the same as that there are none.
        for records in [2, 0] {
            dns.truncate(records, tcp);
            sidecar.until_stale(true, secs(8)).await;
            sidecar.until_members("api", members.clone(), millis(100)).await;
            dns.truncate(records, Tcp::Answered);
            sidecar.until_stale(false, secs(10)).await;
            sidecar.until_members("api", members.clone(), millis(100)).await;
        }
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    for backend in addresses {
        assert!((tally.share(backend) - 25.0).abs() < 4.0, "{:?}", tally.by_backend);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tcp_only_asks_nothing_over_udp() {
    let [a, b] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address, b.address]);
    // As Consul does: less than all over UDP.
    dns.truncate(1, Tcp::Answered);
    let sidecar = Sidecar::ready(&config(&[dns.address], "tcp = true")).await;
    sidecar.until_members("api", vec![a.name(), b.name()], secs(1)).await;
    eventually("it was asked thrice", secs(5), || async { (dns.questions() >= 3).then_some(()) })
        .await;
    let Questions { udp, tcp } = dns.questions_by_transport();
    assert!(udp == 0 && tcp >= 3, "{udp} over UDP, {tcp} over TCP");
}
