//! Addresses that no backend has, or that the configuration refuses, are not used whoever names
//! them.

use outrigger_tests::bind::{Bind, srv};
use outrigger_tests::load::burst;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};

use crate::backends;

fn refusals(sidecar: &Sidecar) -> Vec<(String, String)> {
    let log = sidecar.process.log();
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().map(str::to_owned);
    log.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line["message"] == "a discovered address is not used")
        .filter_map(|line| Some((text(&line, "address")?, text(&line, "why")?)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_poisoned_record_leads_nowhere_and_is_logged_once() {
    let [a] = backends().await;
    let zone = srv(10, 1, a.address, "a")
        + "_api._tcp IN SRV 10 100 80 metadata\nmetadata IN A 169.254.169.254\n\
           _api._tcp IN SRV 10 100 80 mapped\nmapped IN AAAA ::ffff:169.254.169.254\n\
           _api._tcp IN SRV 10 100 80 any\nany IN A 0.0.0.0\n\
           _api._tcp IN SRV 10 100 80 all\nall IN A 224.0.0.1\n\
           _api._tcp IN SRV 10 100 80 there\nthere IN A 127.0.0.66\n";
    let bind = Bind::start(&zone).await;
    let config = bind.config("") + "[discovery]\ndeny = [\"127.0.0.64/26\"]\n";
    let sidecar = Sidecar::ready(&config).await;
    sidecar.until_members("api", vec![a.name()], secs(1)).await;
    let tally = burst(sidecar.web(), 1, 100).await;
    assert_eq!(tally.of(a.address), 100);

    let before = sidecar.metric("outrigger_discovery_updates_total", &[("cluster", "api")]).await;
    eventually("it was asked twice more", secs(5), || async {
        let now = sidecar.metric("outrigger_discovery_updates_total", &[("cluster", "api")]).await;
        (now >= before + 2.0).then_some(())
    })
    .await;
    let mut refused = refusals(&sidecar);
    refused.sort();
    let addresses: Vec<&str> = refused.iter().map(|(address, _)| address.as_str()).collect();
    let expected = [
        "0.0.0.0:80",
        "127.0.0.66:80",
        "169.254.169.254:80",
        "224.0.0.1:80",
        "[::ffff:169.254.169.254]:80",
    ];
    assert_eq!(addresses, expected);
    assert_eq!(refused[1].1, "`discovery.deny` has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn static_endpoints_are_not_filtered() {
    let [a] = backends().await;
    let config = format!(
        "[discovery]\nallow = [\"10.0.0.0/8\"]\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{}\" }}]\n",
        a.name()
    );
    let sidecar = Sidecar::ready(&config).await;
    assert_eq!(burst(sidecar.web(), 1, 10).await.of(a.address), 10);
}
