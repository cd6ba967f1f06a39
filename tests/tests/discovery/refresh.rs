//! When it is asked again, and what the same answer changes: nothing (RELIABILITY D5).

use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::time::Instant;

use crate::backends;
use crate::faulty::FaultyDns;

/// Whatever the TTL: no sooner than a second, and no later than `max_ttl`.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ttls_are_clamped_in_both_directions() {
    let [a, b] = backends().await;
    for ttl in [0, 1, i32::MAX as u32, 1 << 31] {
        let dns = FaultyDns::start().await;
        dns.serve_srv(&[a.address]);
        dns.set_ttl(ttl);
        let config = dns.config().replace("[dns]", "[dns]\nmax_ttl = \"2s\"");
        let sidecar = Sidecar::ready(&config).await;
        let load = Load::start(sidecar.web(), 6, 300);
        let (asked, start) = (dns.questions(), Instant::now());
        tokio::time::sleep(secs(4)).await;
        let (asked, seconds) = (dns.questions() - asked, start.elapsed().as_secs_f64());
        // One may fall on either end of the time.
        assert!(asked as f64 <= seconds + 1.0, "TTL {ttl}: {asked} questions in {seconds} s");
        dns.serve_srv(&[b.address]);
        sidecar.until_members("api", vec![b.name()], secs(4)).await;
        load.stop().await.assert_no_failures();
    }
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
