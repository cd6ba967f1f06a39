//! A backend that drains keeps its sessions to the end, and gets no new ones.

use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::Instant;

use crate::world::{Client, assert_accounts, config, echoes, ended, sessions};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_stay_until_the_deadline() {
    let [leaving, staying] = echoes();
    let (name, gone) = (leaving.name(), leaving.address.port());
    let sidecar = Sidecar::ready(&config(&[leaving.address, staying.address], "", "")).await;
    let clients: Vec<_> = (0..20).map(|_| Client::of(&sidecar)).collect();
    let first: Vec<_> = clients.iter().map(Client::ask).collect();
    let start = Instant::now();
    sidecar.drain(&name, "4s").await;

    let mut new = Vec::new();
    while start.elapsed() < secs(3) {
        let again: Vec<_> = clients.iter().map(Client::ask).collect();
        assert_eq!(again, first);
        let client = Client::of(&sidecar);
        assert_eq!(client.ask(), staying.address.port());
        new.push(client);
    }
    assert_eq!(ended(&sidecar, "drained").await, 0.0);
    eventually("its sessions have ended", secs(10), || async {
        (ended(&sidecar, "drained").await == 10.0).then_some(())
    })
    .await;
    assert!(start.elapsed() >= secs(4) - millis(100), "{:?}", start.elapsed());
    assert_eq!(sidecar.in_flight("api", &name).await, 0);
    assert_eq!(sessions(&sidecar).await, 10.0 + new.len() as f64);
    // Those who are still there begin anew.
    for client in &clients {
        assert_ne!(client.ask(), gone);
    }
    assert_accounts(&sidecar, 30.0 + new.len() as f64).await;
}

/// Nothing waits for sessions, of which nobody knows whether they are over.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn they_are_served_until_the_sidecar_ends_and_do_not_hold_it_up() {
    let [backend] = echoes();
    let mut sidecar = Sidecar::ready(&config(&[backend.address], "", "")).await;
    let client = Client::of(&sidecar);
    client.ask();
    let start = Instant::now();
    sidecar.process.signal(rustix::process::Signal::TERM);
    sidecar.process.line(secs(5), |line| line.contains("stopping").then_some(())).await;
    client.ask();
    assert_eq!(sidecar.process.exit(secs(10)).await, 0);
    assert!(start.elapsed() < secs(8), "{:?}", start.elapsed());
}
