//! A DNS server that fails takes nobody away and costs no request (RELIABILITY D1).

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use outrigger_tests::backend::unused_port;
use outrigger_tests::bind::{Bind, SERVICE, srv};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, millis, secs};
use tokio::time::Instant;

use crate::faulty::{FaultyDns, Reply};
use crate::{HTTP_CHECK, backends};

/// How long each fault lasts.
const FAULT: std::time::Duration = secs(5);
/// Within that: at once, and after 1 s and 2 s more, a fifth less or more; the next is 4 s later.
const QUESTIONS: usize = 4;

async fn stale_seconds(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_discovery_stale_seconds", &[("cluster", "api")]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_kind_of_failure_keeps_the_set_and_costs_no_request() {
    let [a, b, c] = backends().await;
    let mut dns = FaultyDns::start().await;
    let all = [a.address, b.address, c.address];
    dns.serve_srv(&all);
    let sidecar = Sidecar::ready(&dns.config()).await;
    let members = vec![a.name(), b.name(), c.name()];
    sidecar.until_members("api", members.clone(), secs(1)).await;
    let load = Load::start(sidecar.web(), 6, 300);
    let faults = [
        None,
        Some(Reply::Silence),
        Some(Reply::Code(ResponseCode::ServFail)),
        Some(Reply::Code(ResponseCode::Refused)),
        Some(Reply::Code(ResponseCode::FormErr)),
    ];
    for fault in faults {
        let began = Instant::now();
        let asked = dns.questions();
        match &fault {
            Some(reply) => dns.set(reply.clone()),
            None => dns.stop(),
        }
        sidecar.until_stale(true, secs(4)).await;
        let early = stale_seconds(&sidecar).await;
        tokio::time::sleep_until(began + FAULT).await;
        let late = stale_seconds(&sidecar).await;
        assert!(late > early, "{fault:?}: stale for {early} s, and later for {late} s");
        if let Some(Reply::Code(_)) = fault {
            // Not with every request, of which there were 1500 meanwhile.
            let asked = dns.questions() - asked;
            assert!((2..=QUESTIONS).contains(&asked), "{fault:?}: {asked} questions");
        }
        sidecar.until_members("api", members.clone(), millis(100)).await;
        dns.serve_srv(&all);
        if fault.is_none() {
            dns.restart().await;
        }
        sidecar.until_stale(false, secs(10)).await;
        assert_eq!(stale_seconds(&sidecar).await, 0.0);
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    println!("{} requests, the slowest took {:?}", tally.total(), tally.slowest);
    assert!(tally.total() > 5000, "{}", tally.total());
    for backend in all {
        assert!((tally.share(backend) - 33.3).abs() < 5.0, "{:?}", tally.by_backend);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dead_dns_server_costs_no_request() {
    let [a, b] = backends().await;
    let bind = Bind::start(&(srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b"))).await;
    let sidecar = Sidecar::ready(&(bind.config("") + HTTP_CHECK)).await;
    bind.freeze();
    let load = Load::start(sidecar.web(), 4, 200);
    tokio::time::sleep_until(load.started + secs(60)).await;
    let stale = sidecar.cluster("api").await["stale_since"].clone();
    assert!(stale.is_string(), "{stale}");
    let tally = load.stop().await;
    tally.assert_no_failures();
    assert!(tally.of(a.address) > 1000 && tally.of(b.address) > 1000, "{:?}", tally.by_backend);

    bind.thaw();
    // The longest back-off is 30 s.
    sidecar.until_stale(false, secs(35)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_no_empties_the_set_at_once_where_nothing_is_held() {
    let [a, b] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address, b.address]);
    let held = "\n[clusters.api]\nremoval_hold = \"disabled\"\n";
    let sidecar = Sidecar::ready(&(dns.config() + held)).await;
    let members = vec![a.name(), b.name()];
    for no in [Reply::NxDomain, Reply::NoData, Reply::RootTarget] {
        sidecar.until_members("api", members.clone(), secs(5)).await;
        dns.set(no);
        sidecar.until_members("api", vec![], secs(5)).await;
        let (status, body) = client::get(sidecar.web(), "/").await.unwrap();
        assert_eq!((status, body.contains("no_backend")), (503, true));
        dns.serve_srv(&[a.address, b.address]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_an_answer_requests_fail_at_once_and_readiness_waits() {
    let nobody: SocketAddr = unused_port();
    let config = format!(
        "[dns]\nnameservers = [\"{nobody}\"]\n[runtime]\nstart_timeout = \"2s\"\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"dns_srv\"\nname = \"{SERVICE}\"\n"
    );
    let sidecar = Sidecar::start(&config).await;
    let (status, body) = sidecar.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("cluster `api`: discovery has not answered yet"), "{body}");
    let tally = burst(sidecar.web(), 1, 200).await;
    assert_eq!(tally.failures.len(), 200);
    assert!(
        tally.failures.iter().all(|(_, f)| f.contains("no_backend")),
        "{:?}",
        tally.failures[0]
    );
    assert!(tally.slowest < millis(100), "{:?}", tally.slowest);
    sidecar.until_ready().await;
}

/// A connection that nobody answers on any more is given up, and another one opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn over_tcp_a_server_that_was_silent_is_asked_again() {
    let [a, b] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address]);
    let sidecar = Sidecar::ready(&crate::faulty::config(&[dns.address], "tcp = true")).await;
    assert_eq!(dns.questions_by_transport().udp, 0);
    for _ in 0..2 {
        dns.set(Reply::Silence);
        sidecar.until_stale(true, secs(5)).await;
        dns.serve_srv(&[a.address, b.address]);
        sidecar.until_stale(false, secs(10)).await;
    }
    sidecar.until_members("api", vec![a.name(), b.name()], secs(1)).await;
    let asked = dns.questions_by_transport();
    assert!(asked.udp == 0 && asked.tcp >= 5, "{asked:?}");
}
