//! Who gets which share of the connections, and which of the workers carries them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use outrigger_tests::backend::{ByHand, endpoints};
use outrigger_tests::millis;
use outrigger_tests::process::Process;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use tokio::net::TcpSocket;

use super::world::{Server, addresses, assert_repeats, config, greeted, until_ends};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_connections_are_shared_by_weight() {
    for policy in ["round_robin", "random"] {
        let servers: [Server; 3] = Server::some().await;
        let all = addresses(&servers);
        let weighted = [1, 2, 5]
            .iter()
            .zip(all)
            .map(|(weight, address)| format!("{{ address = \"{address}\", weight = {weight} }}"));
        let config = config(&all, &format!("policy = \"{policy}\""))
            .replace(&endpoints(&all), &weighted.collect::<Vec<_>>().join(", "));
        let sidecar = Sidecar::ready(&config).await;
        for _ in 0..50 {
            join_all((0..20).map(|_| async {
                greeted(sidecar.web()).await.expect("it is served");
            }))
            .await;
        }
        let got = servers.each_ref().map(Server::accepted);
        println!("{policy}: {got:?}");
        assert_eq!(got.iter().sum::<usize>(), 1000);
        // Turns are kept by each worker; a draw of a thousand is off by 16 once in three times.
        let off = if policy == "random" { 65 } else { 10 };
        for (got, fair) in got.iter().zip([125, 250, 625]) {
            assert!(got.abs_diff(fair) <= off, "{policy}: {got} instead of {fair}");
        }
    }
}

/// A connection from this address: who greets it.
async fn from(source: Ipv4Addr, to: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let mut app = Raw::from(socket.connect(to).await.unwrap());
    app.line().await.expect("somebody is there")
}

/// Each of a hundred clients, and who greets it.
async fn homes(to: SocketAddr) -> BTreeMap<Ipv4Addr, String> {
    let clients = (1..=100).map(|last| Ipv4Addr::new(127, 0, 0, last));
    join_all(clients.map(async |client| (client, from(client, to).await)))
        .await
        .into_iter()
        .collect()
}

/// By a hash, which needs no memory, or learned.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_is_known_by_its_address() {
    for learned in [false, true] {
        let servers: [Server; 3] = Server::some().await;
        let affinity = format!(
            "[clusters.api.affinity]\nby = \"source_ip\"\nlearned = {learned}\n\
             [clusters.api.drain]\nkeep_affinity = false\n"
        );
        let sidecar = Sidecar::ready(&config(&addresses(&servers), &affinity)).await;
        let first = homes(sidecar.web()).await;
        for server in &servers {
            let of_it = first.values().filter(|name| **name == server.name()).count();
            assert!((15..=55).contains(&of_it), "learned: {learned}: {of_it} of 100");
        }
        assert_eq!(homes(sidecar.web()).await, first, "learned: {learned}");

        // Only those move whose home may not be used any more.
        let gone = servers[0].name();
        sidecar.drain(&gone, "30s").await;
        for (client, home) in homes(sidecar.web()).await {
            match first[&client] == gone {
                true => assert_ne!(home, gone, "learned: {learned}"),
                false => assert_eq!(home, first[&client], "learned: {learned}"),
            }
        }
    }
}

/// The time that each worker has had a processor.
fn workers(process: &Process) -> Vec<Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let workers = tasks.filter(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("worker-"))
    });
    let ran = |task: std::path::PathBuf| {
        let schedstat = std::fs::read_to_string(task.join("schedstat")).unwrap();
        Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
    };
    workers.map(ran).collect()
}

/// Whichever of them accepts: a connection of which each has one half would be noticed here.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_workers_share_the_connections_evenly() {
    let server = Server::greeting().await;
    let sidecar = Sidecar::ready(&config(&[server.address], "[runtime]\nworkers = 2\n")).await;
    let mut apps = Vec::new();
    for _ in 0..40 {
        apps.push(greeted(sidecar.web()).await.expect("it is served").0);
    }
    let before = workers(&sidecar.process);
    join_all(apps.iter_mut().map(async |app| {
        for _ in 0..200 {
            assert_repeats(app).await;
        }
    }))
    .await;
    let spent: Vec<_> =
        workers(&sidecar.process).iter().zip(before).map(|(now, then)| *now - then).collect();
    println!("{spent:?}");
    let [a, b] = spent[..] else { panic!("{} workers", spent.len()) };
    assert!(a.min(b) * 2 > a.max(b), "{spent:?}");
    drop(apps);
    until_ends(&sidecar, "finished", 40).await;
}

/// What is said before the handing over is done is not lost by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_sent_at_once_survives_the_way_to_the_other_worker() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "[runtime]\nworkers = 2\n")).await;
    let mut held = Vec::new();
    for count in 0..50 {
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(format!("{count}\n")).await;
        if count % 2 == 0 {
            app.finish().await;
        }
        let mut served = backend.accept().await;
        assert_eq!(served.line().await, Some(count.to_string()));
        assert_eq!(
            count % 2 == 0,
            tokio::time::timeout(millis(50), served.is_closed()).await.is_ok()
        );
        held.push((app, served));
    }
}
