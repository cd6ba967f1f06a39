//! Three servers that lose their leader, row C2.

use outrigger_tests::backend::Backend;
use outrigger_tests::consul::Servers;
use outrigger_tests::load::Load;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{long, secs};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_leader_nobody_is_lost_and_stale_reads_go_on() {
    let servers = Servers::start().await;
    let backends = [Backend::start().await, Backend::start().await, Backend::start().await];
    let asked = &servers.servers[0];
    for backend in &backends {
        asked.register(backend.address, json!({})).await;
    }
    // A question that waits does not hear that the leader is gone before its wait is over.
    let config = |more: &str| {
        asked
            .config("")
            .replace("[listeners.web]", &format!("wait = \"2s\"\n{more}[listeners.web]"))
    };
    let (usual, stale) = (config(""), config("stale = true\n"));
    let sidecars = [Sidecar::ready(&usual).await, Sidecar::ready(&stale).await];
    for sidecar in &sidecars {
        sidecar.until_members("api", backends.iter().map(Backend::name).collect(), secs(5)).await;
    }
    let loads = sidecars.each_ref().map(|sidecar| Load::start(sidecar.web(), 4, 300));
    for server in &servers.servers[1..] {
        server.process.signal(Signal::STOP);
    }
    sidecars[0].until_stale(true, secs(30)).await;
    let failures = async || {
        sidecars[0].metric("outrigger_discovery_updates_total", &[("result", "failure")]).await
    };
    let before = failures().await;
    // Half a minute where there is time for it.
    let without = if long() { secs(30) } else { secs(10) };
    sleep(without).await;
    let asked_per_second = (failures().await - before) / without.as_secs_f64();
    println!("{asked_per_second:.2} questions a second without a leader");
    assert!(asked_per_second <= 1.1, "{asked_per_second} questions a second");
    for sidecar in &sidecars {
        let states = sidecar.states("api").await;
        assert!(states.len() == 3 && states.iter().all(|(_, s)| s == "ready"), "{states:?}");
    }
    for server in &servers.servers[1..] {
        server.process.signal(Signal::CONT);
    }
    for sidecar in &sidecars {
        sidecar.until_stale(false, secs(30)).await;
    }
    for load in loads {
        load.stop().await.assert_no_failures();
    }
}
