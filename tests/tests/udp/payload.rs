//! Datagrams arrive as they were sent: none is cut, joined, split or invented.

use std::net::UdpSocket;

use outrigger_tests::process::Process;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use rustix::process::Signal;

use crate::world::{Client, Echo, PATIENCE, config, echoes, listening};

/// What UDP over IPv4 can carry.
const LARGEST: usize = 65_507;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_length_goes_there_and_back() {
    let [backend] = echoes();
    let sidecar = Sidecar::ready(&config(&[backend.address], "", "")).await;
    let client = Client::of(&sidecar);
    // The backend adds two bytes.
    for length in [0, 1, 2, 511, 1472, 1473, 9000, 40_000, LARGEST - 2] {
        let datagram: Vec<_> = (0..length).map(|at| (at % 251) as u8).collect();
        client.send(&datagram);
        let (_, said) = client.answer().unwrap_or_else(|| panic!("{length} bytes are answered"));
        assert!(said == datagram, "{length} bytes came back as {}", said.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_largest_and_the_empty_go_both_ways() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    let sidecar = Sidecar::ready(&config(&[backend.local_addr().unwrap()], "", "")).await;
    let client = Client::of(&sidecar);
    let mut buffer = vec![0; 70_000];
    for length in [0, LARGEST, 0, 1] {
        client.send(&vec![7; length]);
        let (there, session) = backend.recv_from(&mut buffer).unwrap();
        assert_eq!(there, length);
        backend.send_to(&buffer[..there], session).unwrap();
        assert_eq!(client.0.recv(&mut buffer).unwrap(), length);
    }
    let dropped = sidecar.metric("outrigger_udp_datagrams_dropped_total", &[]).await;
    assert_eq!(dropped, 0.0);
}

/// A burst is read together, and each of it is passed on by itself and in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_comes_together_stays_apart() {
    let [backend] = echoes();
    let sidecar = Sidecar::ready(&config(&[backend.address], "", "")).await;
    let client = Client::of(&sidecar);
    for _ in 0..20 {
        let sent: Vec<Vec<u8>> = (0..50).map(|at| vec![at as u8; at * 20]).collect();
        sent.iter().for_each(|datagram| client.send(datagram));
        for datagram in &sent {
            let (_, said) = client.answer().expect("all are answered");
            assert_eq!(&said, datagram);
        }
    }
}

/// In more sessions than are looked at together, and in each either one answer or more of them than it
/// passes on at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_that_have_piled_up_arrive_to_the_last() {
    const CLIENTS: u8 = 100;
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_read_timeout(Some(PATIENCE)).unwrap();
    let sidecar = Sidecar::ready(&config(&[backend.local_addr().unwrap()], "", "")).await;
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::of(&sidecar)).collect();
    let session = |client: &Client| {
        client.send(b"x");
        backend.recv_from(&mut [0]).unwrap().1
    };
    let sessions: Vec<_> = clients.iter().map(session).collect();

    for answers in [1, 40] {
        sidecar.process.signal(Signal::STOP);
        let stopped = || async { is_stopped(&sidecar.process).then_some(()) };
        eventually("it has stopped", secs(5), stopped).await;
        for (session, number) in sessions.iter().zip(0..) {
            for answer in 0..answers {
                backend.send_to(&[number, answer], session).unwrap();
            }
        }
        sidecar.process.signal(Signal::CONT);
        for (client, number) in clients.iter().zip(0..) {
            for answer in 0..answers {
                let mut said = [0; 2];
                client.0.recv(&mut said).unwrap_or_else(|e| panic!("{number}, {answer}: {e}"));
                assert_eq!(said, [number, answer]);
            }
        }
    }
}

/// Whether all its threads are.
fn is_stopped(process: &Process) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    // A thread may have ended since.
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    stats.into_iter().all(|stat| stat.rsplit(") ").next().is_some_and(|at| at.starts_with('T')))
}

/// Bound to all addresses, a listener answers from the one that was called; a connected client
/// would not hear it otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_comes_from_the_address_that_was_asked() {
    let [backend] = echoes();
    for (at, all) in [
        ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.7.8.9"][..]),
        ("[::]:0", &["127.0.0.2", "::1"][..]),
    ] {
        let sidecar = Sidecar::ready(&listening(at, &[backend.address], "", "")).await;
        for address in all {
            let server: std::net::IpAddr = address.parse().unwrap();
            let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let client = Client(UdpSocket::bind(any).unwrap());
            client.0.connect((server, sidecar.web().port())).unwrap();
            assert_eq!(client.try_ask(PATIENCE), Some(backend.address.port()), "{at}, {address}");
        }
    }
}

/// More than a packet of the loopback device has room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_largest_over_ipv6_goes_in_parts() {
    let backend = Echo::on("[::1]:0".parse().unwrap(), 1);
    let sidecar = Sidecar::ready(&listening("[::1]:0", &[backend.address], "", "")).await;
    let client = Client(UdpSocket::bind("[::1]:0").unwrap());
    client.0.connect(sidecar.web()).unwrap();
    client.0.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(&vec![6; 65_525]);
    assert_eq!(client.answer().map(|(_, said)| said.len()), Some(65_525));
}
