//! DNS as the source of endpoints: a real BIND, and a server of our own for faults.

mod faulty;

use std::net::SocketAddr;

use faulty::FaultyDns;
use outrigger_tests::backend::{Backend, unused_port};
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};

const HTTP_CHECK: &str =
    "[clusters.api.health]\nprobe = \"http\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n";

/// A burst of updates must not be what a record waits for; beside its TTL of 1 s it has this.
const SLACK: std::time::Duration = secs(1);

async fn backends<const N: usize>() -> [Backend; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::start().await);
    }
    all.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shares_follow_srv_weights_within_a_tier() {
    let [a, b, c] = backends().await;
    let zone =
        srv(10, 60, a.address, "a") + &srv(10, 30, b.address, "b") + &srv(10, 10, c.address, "c");
    let bind = Bind::start(&zone).await;
    // With several requests at a time least_request sends more to whoever is idle.
    for (policy, connections) in [("round_robin", 5), ("random", 5), ("least_request", 1)] {
        let sidecar = Sidecar::ready(&bind.config(&format!("policy = \"{policy}\""))).await;
        let tally = burst(sidecar.web(), connections, 5000 / connections).await;
        tally.assert_no_failures();
        assert_eq!(tally.total(), 5000);
        for (backend, share) in [(&a, 60.0), (&b, 30.0), (&c, 10.0)] {
            let got = tally.share(backend.address);
            assert!((got - share).abs() <= 3.0, "{policy}: {got} instead of {share}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_tier_waits_until_the_first_has_nobody() {
    let [a, b, spare] = backends().await;
    let zone = srv(10, 50, a.address, "a")
        + &srv(10, 50, b.address, "b")
        + &srv(20, 50, spare.address, "s");
    let bind = Bind::start(&zone).await;
    let sidecar = Sidecar::ready(&(bind.config("") + HTTP_CHECK)).await;
    let load = Load::start(sidecar.web(), 4, 300);
    tokio::time::sleep_until(load.started + secs(2)).await;

    a.kill();
    // The first tier lives on with one backend.
    sidecar.until_state("api", &a.name(), "unhealthy", secs(6)).await;
    b.kill();
    let died = load.started.elapsed();
    // fall × interval × 1.1 + timeout + 1 s
    let bound = died + secs(1) * 3 * 11 / 10 + millis(500) + secs(1);
    tokio::time::sleep_until(load.started + bound).await;
    let after = burst(sidecar.web(), 2, 100).await;
    after.assert_no_failures();
    assert_eq!(after.of(spare.address), 200);

    let tally = load.stop().await;
    let (first_use, _) = tally.seen[&spare.name()];
    assert!(first_use >= died, "the second tier was used at {first_use:?}, before {died:?}");
    assert!(
        tally.failures.iter().all(|(at, _)| *at >= died && *at <= bound),
        "{:?}",
        tally.failures
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn records_come_and_go_under_load() {
    let [a, b, c] = backends().await;
    let bind = Bind::start(&(srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b"))).await;
    let sidecar = Sidecar::ready(&bind.config("")).await;
    let load = Load::start(sidecar.web(), 6, 300);
    tokio::time::sleep_until(load.started + secs(1)).await;

    let added = load.started.elapsed();
    bind.update(&format!(
        "update add c.{ZONE}. 1 A 127.0.0.1\nupdate add {SERVICE}. 1 SRV 10 1 {} c.{ZONE}.",
        c.address.port()
    ))
    .await;
    sidecar.until_members("api", vec![a.name(), b.name(), c.name()], secs(5)).await;
    tokio::time::sleep(millis(500)).await;

    let removed = load.started.elapsed();
    bind.update(&format!("update delete {SERVICE}. SRV 10 1 {} a.{ZONE}.", a.address.port())).await;
    sidecar.until_members("api", vec![b.name(), c.name()], secs(5)).await;
    tokio::time::sleep(secs(1)).await;

    let tally = load.stop().await;
    tally.assert_no_failures();
    let ttl = secs(1);
    let (first_c, _) = tally.seen[&c.name()];
    let (_, last_a) = tally.seen[&a.name()];
    assert!(first_c <= added + ttl + SLACK, "added at {added:?}, used at {first_c:?}");
    assert!(last_a <= removed + ttl + SLACK, "removed at {removed:?}, used until {last_a:?}");
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
    eventually("the answer is fresh again", secs(35), || async {
        sidecar.cluster("api").await["stale_since"].is_null().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn failures_keep_the_set_and_a_no_empties_it() {
    let [a, b] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address, b.address]);
    let held = "\n[clusters.api]\nremoval_hold = \"disabled\"\n";
    let sidecar = Sidecar::ready(&(dns.config() + held)).await;
    let members = vec![a.name(), b.name()];
    sidecar.until_members("api", members.clone(), secs(1)).await;
    for fault in [faulty::Reply::ServFail, faulty::Reply::Refused, faulty::Reply::Silence] {
        dns.set(fault.clone());
        eventually("the failure is seen", secs(10), || async {
            sidecar.cluster("api").await["stale_since"].is_string().then_some(())
        })
        .await;
        sidecar.until_members("api", members.clone(), millis(100)).await;
        assert_eq!(client::get(sidecar.web(), "/").await.unwrap().0, 200, "{fault:?}");
        dns.serve_srv(&[a.address, b.address]);
        eventually("it is over", secs(10), || async {
            sidecar.cluster("api").await["stale_since"].is_null().then_some(())
        })
        .await;
    }
    for no in [faulty::Reply::NxDomain, faulty::Reply::NoData, faulty::Reply::RootTarget] {
        dns.set(no);
        sidecar.until_members("api", vec![], secs(5)).await;
        let (status, body) = client::get(sidecar.web(), "/").await.unwrap();
        assert_eq!((status, body.contains("no_backend")), (503, true));
        dns.serve_srv(&[a.address, b.address]);
        sidecar.until_members("api", members.clone(), secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_records_arrive_whole_over_tcp() {
    let [a] = backends().await;
    let mut zone: String =
        (0..999).map(|i| format!("_api._tcp IN SRV 20 1 {} far\n", 10_000 + i)).collect();
    zone += "far IN A 127.0.0.2\n";
    zone += &srv(10, 1, a.address, "a");
    let bind = Bind::start(&zone).await;
    let sidecar = Sidecar::ready(&bind.config("")).await;
    assert_eq!(sidecar.states("api").await.len(), 1000);
    let tally = burst(sidecar.web(), 1, 50).await;
    assert_eq!(tally.of(a.address), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_kind_of_record_is_read_as_rfc_2782_says() {
    let [one, two, shared, spare] = backends().await;
    let other = format!("127.0.0.2:{}", shared.address.port());
    let port = |backend: &Backend| backend.address.port();
    let zone = format!(
        "_api._tcp IN CNAME services\n\
         services IN SRV 5 65535 {one} a\n\
         services IN SRV 5 7 {one} b\n\
         services IN SRV 5 10 {shared} two\n\
         services IN SRV 5 0 {two} a\n\
         services IN SRV 5 1 0 a\n\
         services IN SRV 5 1 80 nowhere\n\
         services IN SRV 9 1 {spare} alias\n\
         a IN A 127.0.0.1\n\
         b IN A 127.0.0.1\n\
         two IN A 127.0.0.1\n\
         two IN A 127.0.0.2\n\
         alias IN CNAME a\n",
        one = port(&one),
        two = port(&two),
        shared = port(&shared),
        spare = port(&spare),
    );
    let bind = Bind::start(&zone).await;
    let sidecar = Sidecar::ready(&bind.config("")).await;
    let cluster = sidecar.cluster("api").await;
    let mut got: Vec<_> = cluster["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| {
            let weight = b["weight"]["configured"].as_f64().unwrap();
            (b["name"].as_str().unwrap().to_owned(), weight, b["priority"].as_u64().unwrap())
        })
        .collect();
    let mut wanted = vec![
        // Two records for one address are one backend.
        (one.name(), 65542.0, 5),
        // Two addresses of one target share its weight.
        (shared.name(), 5.0, 5),
        (other, 5.0, 5),
        (two.name(), 0.0, 5),
        // A target that is an alias is followed, though it should not be one.
        (spare.name(), 1.0, 9),
    ];
    got.sort_by(|a, b| a.0.cmp(&b.0));
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(got, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_of_order_is_no_change_and_measurements_stay() {
    let [a, b] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address, b.address]);
    let sidecar = Sidecar::ready(&dns.config()).await;
    burst(sidecar.web(), 1, 10).await;
    let version = sidecar.cluster("api").await["version"].clone();
    dns.serve_srv(&[b.address, a.address]);
    let asked = dns.questions();
    eventually("it was asked three times more", secs(10), || async {
        (dns.questions() >= asked + 3).then_some(())
    })
    .await;
    assert_eq!(sidecar.cluster("api").await["version"], version);

    let outcomes = || sidecar.metric("outrigger_outcomes_total", &[("outcome", "success")]);
    assert_eq!(outcomes().await, 10.0);
    dns.serve_srv(&[b.address]);
    sidecar.until_members("api", vec![b.name()], secs(5)).await;
    dns.serve_srv(&[a.address, b.address]);
    sidecar.until_members("api", vec![a.name(), b.name()], secs(5)).await;
    burst(sidecar.web(), 1, 10).await;
    assert_eq!(outcomes().await, 20.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ttls_are_clamped_in_both_directions() {
    let dns = FaultyDns::start().await;
    let [a] = backends().await;
    dns.serve_srv(&[a.address]);
    dns.set_ttl(0);
    let sidecar = Sidecar::ready(&dns.config()).await;
    let (asked, start) = (dns.questions(), tokio::time::Instant::now());
    tokio::time::sleep(secs(4)).await;
    let per_second = (dns.questions() - asked) as f64 / start.elapsed().as_secs_f64();
    assert!(per_second <= 1.3, "{per_second} questions per second for a TTL of 0");
    drop(sidecar);

    dns.set_ttl(i32::MAX as u32);
    let sidecar = Sidecar::ready(&dns.config().replace("[dns]", "[dns]\nmax_ttl = \"2s\"")).await;
    let [b] = backends().await;
    dns.serve_srv(&[b.address]);
    sidecar.until_members("api", vec![b.name()], secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_dns_source_takes_all_addresses_with_its_port() {
    let [a] = backends().await;
    let port = a.address.port();
    let bind = Bind::start(
        "web IN CNAME hosts\nhosts IN A 127.0.0.1\nhosts IN A 127.0.0.3\nhosts IN AAAA ::1\n",
    )
    .await;
    let config = bind
        .config("")
        .replace("source = \"dns_srv\"", &format!("source = \"dns\"\nport = {port}"))
        .replace(SERVICE, &format!("web.{ZONE}"));
    let sidecar = Sidecar::ready(&config).await;
    let wanted =
        vec![format!("127.0.0.1:{port}"), format!("127.0.0.3:{port}"), format!("[::1]:{port}")];
    sidecar.until_members("api", wanted, secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn addresses_that_do_not_come_along_are_asked_for() {
    let [a] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address]);
    dns.without_glue();
    let sidecar = Sidecar::ready(&dns.config()).await;
    sidecar.until_members("api", vec![a.name()], secs(1)).await;
    assert_eq!(client::get(sidecar.web(), "/").await.unwrap().0, 200);
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
