//! A backend that is gone says so by ICMP: its sessions move, and nobody else's.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};

use crate::world::{Client, Echo, assert_accounts, config, echoes, ended, tally};

/// How long a client waits before it asks again.
const AGAIN: Duration = millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_of_a_dead_backend_move_and_the_others_stay() {
    let [mut dead, alive] = echoes();
    let (name, gone) = (dead.name(), dead.address.port());
    let sidecar = Sidecar::ready(&config(&[dead.address, alive.address], "", "")).await;
    let clients: Vec<_> = (0..40).map(|_| Client::of(&sidecar)).collect();
    let first: Vec<_> = clients.iter().map(Client::ask).collect();
    assert_eq!(tally(first.iter().copied())[&gone], 20);
    dead.stop();

    // What a datagram meets is known when the next one comes.
    clients.iter().for_each(|client| client.send(b"x"));
    for (client, before) in clients.iter().zip(&first) {
        match *before == gone {
            true => assert_eq!(client.ask(), alive.address.port()),
            false => assert_eq!(client.answer().expect("it is answered").0, *before),
        }
    }
    let labels = [("backend", &*name), ("outcome", "connect_failed")];
    assert_eq!(sidecar.metric("outrigger_outcomes_total", &labels).await, 20.0);
    sidecar.until_state("api", &name, "ejected", secs(5)).await;
    // They are the sessions that they were.
    assert_accounts(&sidecar, 40.0).await;
    assert_eq!(sidecar.in_flight("api", &alive.name()).await, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_backend_is_asked_again_until_it_is_back() {
    let [mut backend] = echoes();
    let address = backend.address;
    let sidecar = Sidecar::ready(&config(&[address], "", "")).await;
    let client = Client::of(&sidecar);
    client.ask();
    backend.stop();
    for _ in 0..4 {
        assert_eq!(client.try_ask(millis(50)), None);
    }
    let _back = Echo::on(address, 1);
    eventually("it is answered again", secs(10), || async { client.try_ask(AGAIN) }).await;
    assert_accounts(&sidecar, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_backend_datagrams_are_dropped_and_counted() {
    let sidecar = Sidecar::ready(&config(&[], "", "")).await;
    let client = Client::of(&sidecar);
    for _ in 0..5 {
        client.send(b"x");
    }
    eventually("all are counted", secs(5), || async {
        (ended(&sidecar, "no_backend").await == 5.0).then_some(())
    })
    .await;
    let dropped = [("listener", "web"), ("reason", "no_backend")];
    assert_eq!(sidecar.metric("outrigger_udp_datagrams_dropped_total", &dropped).await, 5.0);
    assert_eq!(sidecar.metric("outrigger_errors_total", &dropped).await, 5.0);
    assert_accounts(&sidecar, 5.0).await;
}

/// Clients that ask without a pause: those of others lose nothing, those of the dead one what was on
/// its way and what met the refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_is_killed_under_load_costs_its_sessions_little() {
    let [mut dead, one, two] = echoes();
    let gone = dead.address.port();
    let all = [dead.address, one.address, two.address];
    let sidecar = Sidecar::ready(&config(&all, "", "")).await;
    let stop = AtomicBool::new(false);
    let lost = std::thread::scope(|scope| {
        let ask = |_| {
            let (stop, client) = (&stop, Client::from(Ipv4Addr::LOCALHOST, sidecar.web()));
            let first = client.ask();
            scope.spawn(move || {
                let (mut answered, mut lost) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    match client.try_ask(secs(1)) {
                        Some(_) => answered += 1,
                        None => lost += 1,
                    }
                    std::thread::sleep(millis(2));
                }
                assert!(client.try_ask(secs(2)).is_some_and(|port| port != gone));
                (first, answered, lost)
            })
        };
        let clients: Vec<_> = (0..12).map(ask).collect();
        std::thread::sleep(millis(500));
        dead.stop();
        std::thread::sleep(secs(3));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let of_dead: Vec<_> = lost.iter().filter(|(first, ..)| *first == gone).collect();
    assert_eq!(of_dead.len(), 4, "{lost:?}");
    assert!(of_dead.iter().all(|(_, _, lost)| (1..=2).contains(lost)), "{lost:?}");
    let others = lost.iter().filter(|(first, ..)| *first != gone);
    assert!(others.clone().all(|(_, answered, lost)| *lost == 0 && *answered > 100), "{lost:?}");
    assert_accounts(&sidecar, 12.0).await;
}
