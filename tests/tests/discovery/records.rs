//! What records mean, and how soon a change of them acts (RELIABILITY D6).

use outrigger_tests::backend::Backend;
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::knot::Knot;
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, millis, secs};

use crate::faulty::FaultyDns;
use crate::{HTTP_CHECK, backends};

/// A burst of updates must not be what a record waits for; beside its TTL of 1 s it has this.
const SLACK: std::time::Duration = secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shares_follow_srv_weights_within_a_tier() {
    let [a, b, c] = backends().await;
    let zone =
        srv(10, 60, a.address, "a") + &srv(10, 30, b.address, "b") + &srv(10, 10, c.address, "c");
    let bind = Bind::start(&zone).await;
    // With several requests at a time least_request sends more to whoever is idle.
    for (policy, connections) in [("round_robin", 5), ("random", 5), ("least_request", 1)] {
        let sidecar = Sidecar::ready(&bind.config(&format!("policy = \"{policy}\""))).await;
        let tally = burst(sidecar.web(), connections, 10_000 / connections).await;
        tally.assert_no_failures();
        assert_eq!(tally.total(), 10_000);
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
async fn every_kind_of_record_is_read_as_rfc_2782_says() {
    let [one, two, shared, spare, six] = backends().await;
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
         alias IN CNAME more\n\
         more IN CNAME evenmore\n\
         evenmore IN CNAME a\n\
         services IN SRV 5 1 81 loop\n\
         loop IN CNAME pool\n\
         pool IN CNAME loop\n\
         services IN SRV 5 1 82 .\n\
         services IN SRV 5 3 {six} SIX\n\
         six IN AAAA ::1\n",
        one = port(&one),
        two = port(&two),
        shared = port(&shared),
        spare = port(&spare),
        six = port(&six),
    );
    let bind = Bind::start(&zone).await;
    let knot = Knot::start(&zone).await;
    for config in [bind.config(""), knot.config("")] {
        let sidecar = Sidecar::ready(&config).await;
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
            (other.clone(), 5.0, 5),
            (two.name(), 0.0, 5),
            // A name is the same in capitals, and one with IPv6 alone has addresses, too.
            (format!("[::1]:{}", port(&six)), 3.0, 5),
            // A target that is an alias is followed, though it should not be one.
            (spare.name(), 1.0, 9),
        ];
        got.sort_by(|a, b| a.0.cmp(&b.0));
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(got, wanted);
    }
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
