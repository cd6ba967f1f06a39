//! Several sources for one cluster: the first that has an answer is used.

use outrigger_tests::backend::Backend;
use outrigger_tests::consul::Consul;
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::json;
use tokio::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn consul_comes_first_then_the_rest_and_nobody_is_lost_on_the_way() {
    let (known, backup) = (Backend::start().await, Backend::start().await);
    let mut consul = Consul::start().await;
    consul.register(known.address, json!({})).await;
    let config = format!(
        "[consul]\naddress = \"http://{}\"\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api]\nremoval_hold = \"2s\"\n\
         [[clusters.api.discovery]]\nsource = \"consul\"\nservice = \"api\"\n\
         [[clusters.api.discovery]]\nsource = \"static\"\nendpoints = [{{ address = \"{}\" }}]\n",
        consul.http, backup.address
    );
    let sidecar = Sidecar::ready(&config).await;
    let until_source = async |source: &str| {
        eventually(&format!("{source} is used"), secs(5), || async {
            (sidecar.cluster("api").await["source"] == source).then_some(())
        })
        .await;
    };
    let only = async |backend: &Backend| {
        let tally = burst(sidecar.web(), 2, 50).await;
        tally.assert_no_failures();
        assert_eq!(tally.of(backend.address), 100);
    };
    until_source("consul").await;
    only(&known).await;
    let load = Load::start(sidecar.web(), 4, 300);
    // It says that nobody is there, for longer than that is doubted.
    let since = Instant::now();
    consul.deregister(known.address).await;
    until_source("static").await;
    assert!(since.elapsed() >= secs(2), "{:?}", since.elapsed());
    only(&backup).await;
    consul.register(known.address, json!({})).await;
    until_source("consul").await;
    only(&known).await;
    // It fails, and keeps its answer.
    consul.process.kill().await;
    sidecar.until_stale(true, secs(5)).await;
    only(&known).await;
    load.stop().await.assert_no_failures();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_never_answered_is_done_without() {
    let backup = Backend::start().await;
    let refused = outrigger_tests::backend::unused_port();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = |first: &str| {
        format!(
            "[consul]\naddress = \"http://{refused}\"\n\
             [dns]\nnameservers = [\"{}\"]\ntimeout = \"20s\"\n\
             [runtime]\nstart_timeout = \"2s\"\n\
             [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
             [[clusters.api.discovery]]\n{first}\n\
             [[clusters.api.discovery]]\nsource = \"static\"\nendpoints = [{{ address = \"{}\" }}]\n",
            silent.local_addr().unwrap(),
            backup.address
        )
    };
    let consul = "source = \"consul\"\nservice = \"api\"";
    let dns = "source = \"dns_srv\"\nname = \"_api._tcp.test.internal\"";
    for (first, at_least, at_most) in [(consul, secs(0), secs(1)), (dns, secs(1), secs(3))] {
        let since = Instant::now();
        let sidecar = Sidecar::start(&config(first)).await;
        eventually("the other is used", secs(5), || async {
            (sidecar.cluster("api").await["source"] == "static").then_some(())
        })
        .await;
        let took = since.elapsed();
        assert!(took >= at_least && took <= at_most, "{first}: {took:?}");
        burst(sidecar.web(), 2, 50).await.assert_no_failures();
    }
}
