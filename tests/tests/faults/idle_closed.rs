//! Connections to backends that are closed just when they are to be used again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use http_body_util::Full;
use outrigger_tests::backend::{Backend, config, endpoints, unused_port};
use outrigger_tests::client::{Client, request};
use outrigger_tests::load::Load;
use outrigger_tests::nginx::Nginx;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{long, millis, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What came of requests that were sent over kept-alive connections, with pauses.
#[derive(Debug, Default)]
struct Account {
    answered: usize,
    failures: Vec<String>,
}

/// Sends `each` requests over each of so many connections, with random pauses of up to `pause`.
async fn paced(
    address: SocketAddr,
    method: &'static str,
    connections: u64,
    each: usize,
    pause: Duration,
) -> Account {
    let mut running = JoinSet::new();
    for seed in 0..connections {
        running.spawn(async move {
            let mut rng = Rng::with_seed(seed);
            let mut account = Account::default();
            let mut client = Client::connect(address).await.unwrap();
            for i in 0..each {
                tokio::time::sleep(pause.mul_f64(rng.f64())).await;
                if !client.is_open() {
                    client = Client::connect(address).await.unwrap();
                }
                let request = request(method, &format!("/{seed}-{i}"), address);
                let body = Full::from(if method == "POST" { "hello" } else { "" });
                match client.send(request.body(body).unwrap()).await {
                    Ok(answer) if answer.status() == 200 => account.answered += 1,
                    Ok(answer) => account.failures.push(answer.status().to_string()),
                    Err(error) => account.failures.push(error.to_string()),
                }
            }
            account
        });
    }
    running.join_all().await.into_iter().fold(Account::default(), |mut all, one| {
        all.answered += one.answered;
        all.failures.extend(one.failures);
        all
    })
}

/// nginx closes what was idle for a while, and requests come after about that while.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nginx_that_closes_idle_connections_costs_no_get() {
    let (short, second) = (millis(2), secs(1));
    let runs = match long() {
        false => vec![(short, 16, 20_000)],
        true => vec![(short, 16, 100_000), (second, 500, 100_000)],
    };
    for (idle, connections, requests) in runs {
        let keepalive = format!("keepalive_timeout {}ms;", idle.as_millis());
        let nginx = Nginx::configured(unused_port(), &keepalive).await;
        let sidecar = Sidecar::ready(&config(&[nginx.address], "")).await;
        let each = requests / connections as usize;
        let account = paced(sidecar.web(), "GET", connections, each, idle * 2).await;
        let reset = sidecar.metric("outrigger_outcomes_total", &[("outcome", "reset")]).await;
        println!("idle {idle:?}: {} answered, {reset} met a close", account.answered);
        assert_eq!(account.failures, [""; 0]);
    }
}

/// Before it closes after so many requests, nginx says so: then not even a POST is in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nginx_that_closes_after_some_requests_costs_nothing() {
    for served in [1, 2, 5] {
        let keepalive = format!("keepalive_requests {served};");
        let nginx = Nginx::configured(unused_port(), &keepalive).await;
        let sidecar = Sidecar::ready(&config(&[nginx.address], "")).await;
        for method in ["GET", "POST"] {
            let account = paced(sidecar.web(), method, 8, 150, Duration::ZERO).await;
            assert_eq!(account.failures, [""; 0], "{method}, {served} on each connection");
        }
    }
}

/// A backend that answers one to four requests of each connection and closes it when the next
/// arrives: before it reads any of it, after a byte, or after all.
struct Cutting {
    address: SocketAddr,
    /// The first line of each request that was read whole.
    seen: Arc<Mutex<Vec<String>>>,
    /// The requests that met a close.
    cut: Arc<Mutex<usize>>,
    _connections: JoinSet<()>,
}

impl Cutting {
    /// Reads requests up to `end`.
    async fn start(end: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, cut) = <(Arc<Mutex<Vec<_>>>, Arc<Mutex<usize>>)>::default();
        let (all_seen, all_cut) = (Arc::clone(&seen), Arc::clone(&cut));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            for seed in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, cut) = (Arc::clone(&all_seen), Arc::clone(&all_cut));
                connections.spawn(async move {
                    if serve_some(stream, end, seed, &seen).await.is_some() {
                        *cut.lock().unwrap() += 1;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, seen, cut, _connections: accepting }
    }
}

/// `None` when the sidecar closes first.
async fn serve_some(
    mut stream: TcpStream,
    end: &[u8],
    seed: u64,
    seen: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut rng = Rng::with_seed(seed);
    for _ in 0..rng.u32(1..=4) {
        let request = read_request(&mut stream, end).await?;
        seen.lock().unwrap().push(request);
        stream.write_all(ANSWER).await.ok()?;
    }
    let mut first = [0];
    match rng.u8(0..3) {
        0 => (stream.peek(&mut first).await.ok()? == 1).then_some(()),
        1 => stream.read_exact(&mut first).await.ok().map(drop),
        _ => {
            let request = read_request(&mut stream, end).await?;
            seen.lock().unwrap().push(request);
            Some(())
        }
    }
}

/// Reads up to `end` and gives the first line.
async fn read_request(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(end) {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(request).unwrap().lines().next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_closes_under_a_get_costs_nothing() {
    let requests = if long() { 100_000 } else { 20_000 };
    let backend = Cutting::start(b"\r\n\r\n").await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let account = paced(sidecar.web(), "GET", 8, requests / 8, Duration::ZERO).await;
    assert_eq!(account.failures, [""; 0]);
    let cut = *backend.cut.lock().unwrap();
    println!("{} answered, {cut} met a close", account.answered);
    assert!(cut > requests / 20, "only {cut} of {requests} met a close");
}

/// It may have been acted upon: whoever sent it has to decide.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_closes_under_a_post_fails_it_and_nobody_sees_it_twice() {
    let requests = if long() { 40_000 } else { 8_000 };
    let backend = Cutting::start(b"\r\n\r\nhello").await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let account = paced(sidecar.web(), "POST", 8, requests / 8, Duration::ZERO).await;
    let (failed, cut) = (account.failures.len(), *backend.cut.lock().unwrap());
    println!("{} answered, {cut} met a close, {failed} failed", account.answered);
    assert!(cut > requests / 20, "only {cut} of {requests} met a close");
    assert_eq!((account.answered + failed, failed), (requests, cut), "each failed for a reason");
    assert!(account.failures.iter().all(|failure| failure == "502 Bad Gateway"));
    let mut seen = backend.seen.lock().unwrap().clone();
    seen.sort_unstable();
    let twice: Vec<_> = seen.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert_eq!(twice, [[""; 2]; 0]);
}

/// Nothing was sent on the closed connection, so a POST may go to a new one: also when the
/// worker has so much else to do that it has not yet heard of the close.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_post_whose_connection_was_closed_before_it_costs_nothing() {
    let (busy, (closing, mut closed)) = (Backend::start().await, closing_after_each().await);
    let config = config(&[busy.address], "")
        + &format!(
            "[listeners.posts]\nlisten = \"127.0.0.1:0\"\ncluster = \"closing\"\n\
             [clusters.closing.discovery]\nsource = \"static\"\nendpoints = [{}]\n\
             [runtime]\nworkers = 1\n",
            endpoints(&[closing])
        );
    let sidecar = Sidecar::ready(&config).await;
    let load = Load::start(sidecar.web(), 64, 20_000);
    let mut raw = Raw::connect(sidecar.listener("posts")).await;
    let mut failed = 0;
    for _ in 0..if long() { 20_000 } else { 1_000 } {
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
        match raw.answer().await.unwrap().status {
            200 => closed.recv().await.unwrap(),
            _ => failed += 1,
        }
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    println!("{failed} failed beside {} GETs, p50 {:?}", tally.total(), tally.percentile(50));
    assert_eq!(failed, 0, "beside {} GETs", tally.total());
}

/// A backend that answers one request of each connection and closes it, with the answer or just
/// after it, and says when it has.
async fn closing_after_each() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (closed, closes) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for i in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream, b"\r\n\r\nhello").await;
            // A corked answer leaves in one packet with the end of the connection.
            rustix::net::sockopt::set_tcp_cork(&stream, i % 2 == 0).unwrap();
            stream.write_all(ANSWER).await.unwrap();
            drop(stream);
            if closed.send(()).is_err() {
                return;
            }
        }
    });
    (address, closes)
}
