//! More clients than the table has room for.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};

use crate::world::{
    Client, Echo, PATIENCE, PORTS, assert_accounts, config, echoes, ended, sessions,
};

const CLIENTS: u64 = 100_000;
const SESSIONS: u64 = 16_384;
/// Datagrams that are on their way at most, and 64 more: all of them have room in the buffer of one
/// backend whose thread has no processor for a while, so that nothing is lost by the kernel.
const AHEAD: u64 = 128;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_clients_meet_a_bound_and_stall_nobody() {
    let _ports = PORTS.lock().await;
    let backends = echoes::<2>();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let sidecar = Sidecar::ready(&config(&addresses, "", "")).await;
    let (server, before) = (sidecar.web(), sidecar.process.memory());
    let client = Client::of(&sidecar);
    let home = client.ask();

    let flood = tokio::task::spawn_blocking(move || {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let mut waits = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    assert_eq!(client.try_ask(PATIENCE), Some(home), "its session stays");
                    waits.push(start.elapsed());
                    std::thread::sleep(millis(2));
                }
                waits
            });
            send_from_everywhere(server, &backends);
            over.store(true, Ordering::Relaxed);
            (waits.join().unwrap(), backends)
        })
    });
    let (peak, flooded) = sidecar.process.peak_memory(flood).await;
    let (mut waits, _backends) = flooded.unwrap();
    waits.sort();
    let (p50, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    let grown = (peak - before) >> 10;
    println!("{} asked meanwhile: p50 {p50:?}, p99 {p99:?}; {grown} KiB more memory", waits.len());
    assert!(p99 < millis(250), "p99 {p99:?}");
    assert!(grown < 2 * SESSIONS as usize, "{grown} KiB more");

    let all = (CLIENTS + 1) as f64 + waits.len() as f64;
    for direction in ["to_backend", "from_backend"] {
        eventually("every datagram has gone there and back", secs(10), || async {
            let labels = [("listener", "web"), ("direction", direction)];
            let passed = sidecar.metric("outrigger_udp_datagrams_total", &labels).await;
            (passed == all).then_some(())
        })
        .await;
    }
    assert_eq!(sessions(&sidecar).await, SESSIONS as f64);
    assert_eq!(ended(&sidecar, "evicted").await, (CLIENTS + 1 - SESSIONS) as f64);
    assert_accounts(&sidecar, CLIENTS as f64 + 1.0).await;
    let dropped = sidecar.metric("outrigger_udp_datagrams_dropped_total", &[]).await;
    assert_eq!(dropped, 0.0);
}

/// One datagram from each of many addresses, of which each has four ports.
fn send_from_everywhere(server: SocketAddr, backends: &[Echo]) {
    for address in 0..CLIENTS / 4 {
        let [_, x, y, z] = (address as u32).to_be_bytes();
        let ip = Ipv4Addr::new(127, x + 1, y, z);
        let sockets: [_; 4] = std::array::from_fn(|_| UdpSocket::bind((ip, 0)).unwrap());
        for socket in &sockets {
            socket.send_to(b"hello", server).unwrap();
        }
        if address % 16 == 0 {
            wait_for(backends, (address * 4).saturating_sub(AHEAD));
        }
    }
    wait_for(backends, CLIENTS);
}

/// Until the backends have received so many, from whomever.
fn wait_for(backends: &[Echo], wanted: u64) {
    let end = Instant::now() + secs(20);
    let received = || backends.iter().map(|b| b.received.load(Ordering::Relaxed)).sum::<u64>();
    while received() < wanted {
        assert!(Instant::now() < end, "{} of {wanted} arrived", received());
        std::thread::sleep(Duration::from_micros(200));
    }
}
