//! Who gets how many sessions, and that one stays where it is.

use std::net::Ipv4Addr;

use outrigger_tests::sidecar::Sidecar;

use crate::world::{Client, assert_accounts, config, echoes, tally};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_are_shared_by_weight_and_stay() {
    let backends = echoes::<3>();
    let weights = [6, 3, 1];
    let endpoints: String = backends
        .iter()
        .zip(weights)
        .map(|(backend, weight)| {
            format!("{{ address = \"{}\", weight = {weight} }},", backend.name())
        })
        .collect();
    let sidecar = Sidecar::ready(&format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"udp\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{endpoints}]\n"
    ))
    .await;
    let clients: Vec<_> = (0..200).map(|_| Client::of(&sidecar)).collect();
    let first: Vec<_> = clients.iter().map(Client::ask).collect();
    let shares = tally(first.iter().copied());
    for (backend, weight) in backends.iter().zip(weights) {
        assert_eq!(shares[&backend.address.port()], 20 * weight, "{shares:?}");
    }
    for _ in 0..3 {
        let again: Vec<_> = clients.iter().map(Client::ask).collect();
        assert_eq!(again, first);
    }
    assert_accounts(&sidecar, 200.0).await;
    let passed = |direction| sidecar.metric("outrigger_udp_datagrams_total", direction);
    assert_eq!(passed(&[("direction", "to_backend")]).await, 800.0);
    assert_eq!(passed(&[("direction", "from_backend")]).await, 800.0);
    let bytes = |direction| sidecar.metric("outrigger_bytes_total", direction);
    assert_eq!(bytes(&[("direction", "to_backend")]).await, 4000.0);
    assert_eq!(bytes(&[("direction", "from_backend")]).await, 5600.0);
    assert_eq!(sidecar.in_flight("api", &backends[0].name()).await, 120);
}

/// Clients of one address are kept together, whatever their ports.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_address_keeps_to_a_backend() {
    let backends = echoes::<3>();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let affinity = "[clusters.api.affinity]\nby = \"source_ip\"";
    let sidecar = Sidecar::ready(&config(&addresses, "", affinity)).await;
    let at = |ip: Ipv4Addr| {
        let ports = (0..4).map(|_| Client::from(ip, sidecar.web()).ask());
        let all = tally(ports);
        assert_eq!(all.len(), 1, "{ip}: {all:?}");
        *all.keys().next().unwrap()
    };
    let used = tally((1..=24).map(|last| at(Ipv4Addr::new(127, 9, 0, last))));
    assert_eq!(used.len(), 3, "{used:?}");
    let hits = sidecar.metric("outrigger_affinity_total", &[("result", "hit")]).await;
    assert_eq!(hits, 96.0);
}
