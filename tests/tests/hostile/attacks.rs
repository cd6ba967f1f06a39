//! Apps that send or read as slowly as they can, as slowhttptest has it. The listener's timeouts
//! are at their defaults.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::load::Load;
use outrigger_tests::process::Process;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs, tool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::allow_open_files;

const KIB: usize = 1 << 10;

/// What a second of an attack looked like to slowhttptest.
#[derive(Debug)]
struct Second {
    closed: usize,
    connected: usize,
    available: bool,
}

/// Runs slowhttptest beside a good client, and asserts that the latter notices nothing. The value
/// is its report, and how much memory the sidecar took at most.
async fn attack(sidecar: &Sidecar, path: &str, args: &str) -> (Vec<Second>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(tool("slowhttptest", "slowhttptest"));
    command.args(args.split(' ')).arg("-u").arg(format!("http://{}{path}", sidecar.web()));
    command.arg("-g").arg("-o").arg(dir.path().join("report"));

    let load = Load::start(sidecar.web(), 4, 100);
    // Its connections are open, and the memory of a first request is taken.
    tokio::time::sleep_until(load.started + millis(500)).await;
    let before = sidecar.process.memory();
    let mut attack = Process::start(command);
    let (peak, code) = sidecar.process.peak_memory(attack.exit(secs(90))).await;
    assert_eq!(code, 0, "{}", attack.log());
    let tally = load.stop().await;
    tally.assert_no_failures();

    let report = std::fs::read_to_string(dir.path().join("report.csv")).unwrap();
    let report: Vec<Second> = report.lines().skip(1).map(second).collect();
    let down = report.iter().filter(|second| !second.available).count();
    assert_eq!(down, 0, "the service was down: {report:?}");
    println!(
        "{args}: {} s, {} KiB; {} good requests, p99 {:?}",
        report.len(),
        (peak - before) / KIB,
        tally.total(),
        tally.percentile(99)
    );
    (report, peak - before)
}

/// A line `second,closed,pending,connected,available`.
fn second(line: &str) -> Second {
    let fields: Vec<usize> = line.split(',').map(|field| field.parse().unwrap()).collect();
    let [_, closed, _, connected, available] = fields[..] else { panic!("{line}") };
    Second { closed, connected, available: available > 0 }
}

/// Sends `start`, then `drip` again and again, until it is cut; when that was, and what it read.
async fn cut_after(
    address: SocketAddr,
    start: &str,
    drip: &str,
    every: Duration,
) -> (Duration, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let started = Instant::now();
    stream.write_all(start.as_bytes()).await.unwrap();
    let mut drips = tokio::time::interval_at(started + every, every);
    let (mut read, mut answer) = ([0; 4096], Vec::new());
    loop {
        tokio::select! {
            got = stream.read(&mut read) => match got.unwrap_or(0) {
                0 => return (started.elapsed(), String::from_utf8(answer).unwrap()),
                got => answer.extend_from_slice(&read[..got]),
            },
            _ = drips.tick() => stream.write_all(drip.as_bytes()).await.unwrap(),
        }
    }
}

/// So many of them at a time: each must have a 408, and be closed within these bounds.
async fn all_cut(
    address: SocketAddr,
    start: &'static str,
    (drip, every): (&'static str, Duration),
    (earliest, latest): (Duration, Duration),
) {
    let mut cut = JoinSet::new();
    for _ in 0..20 {
        cut.spawn(cut_after(address, start, drip, every));
    }
    for (took, answer) in cut.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert!(took >= earliest && took <= latest, "{start:?} was cut after {took:?}");
    }
}

async fn counted(sidecar: &Sidecar, code: &str) -> f64 {
    sidecar.metric("outrigger_requests_total", &[("code", code)]).await
}

/// Each kind meets a sidecar of its own, so that it is known what takes the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_apps_are_cut_in_time_and_nobody_else_notices() {
    allow_open_files();
    tokio::join!(slow_heads(), slow_bodies(), slow_readers());
}

/// Cut after ten seconds.
async fn slow_heads() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let own = all_cut(
        sidecar.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        ("x", secs(1)),
        (secs(10), secs(11)),
    );
    let slowloris = "-c 500 -H -i 5 -r 200 -t GET -x 24 -p 3 -l 60";
    let ((report, memory), ()) = tokio::join!(attack(&sidecar, "/", slowloris), own);
    // All were there at the same time, each for its ten seconds, and they took 2.5 s to come.
    assert!(report.iter().any(|second| second.connected == 500), "{report:?}");
    assert!(report.iter().take(10).all(|second| second.closed == 0), "{report:?}");
    assert!(report.len() <= 16, "{report:?}");
    assert_eq!(counted(&sidecar, "408").await, 520.0);
    assert!(memory <= 520 * 20 * KIB, "{} KiB", memory / KIB);
}

/// How long a backend had to do with each of its requests, good ones included.
type Held = Arc<Mutex<Vec<Duration>>>;

/// Goes with a request.
struct Holding(Instant, Held);

impl Drop for Holding {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0.elapsed());
    }
}

/// Cut when they are below the slowest rate, or silent for thirty seconds; until then each holds
/// a connection to the backend.
async fn slow_bodies() {
    let held = Held::default();
    let holding = Arc::clone(&held);
    let backend = Backend::answering(move |request| {
        let holding = Holding(Instant::now(), Arc::clone(&holding));
        async move {
            let _ = request.into_body().collect().await;
            drop(holding);
            Response::new(full("taken"))
        }
    })
    .await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx";
    // The rate is looked at when more comes; a body that only pauses has its thirty seconds.
    let slow = all_cut(sidecar.web(), post, ("x", secs(5)), (secs(10), secs(16)));
    let silent = all_cut(sidecar.web(), post, ("", secs(60)), (secs(30), secs(31)));
    let slow_post = "-c 500 -B -i 5 -r 200 -s 8192 -x 2 -p 3 -l 60";
    let ((report, memory), (), ()) = tokio::join!(attack(&sidecar, "/", slow_post), slow, silent);
    assert!(report.iter().any(|second| second.connected == 500), "{report:?}");
    assert!(report.len() <= 20, "{report:?}");
    assert_eq!(counted(&sidecar, "408").await, 540.0);
    until_nothing_is_in_flight(&sidecar).await;
    let held = held.lock().unwrap();
    let (longest, long) = (*held.iter().max().unwrap(), held.iter().filter(|h| **h > secs(17)));
    assert!(longest <= secs(31) && long.count() == 20, "a request was held for {longest:?}");
    // Each has a connection of its own to the backend.
    assert!(memory <= 540 * 2 * 20 * KIB, "{} KiB", memory / KIB);
}

/// Cut after thirty seconds; until then they pause the backend.
async fn slow_readers() {
    let held = Held::default();
    let holding = Arc::clone(&held);
    let backend = Backend::answering(move |request| {
        let holding = Holding(Instant::now(), Arc::clone(&holding));
        async move {
            match request.uri().path() {
                "/endless" => Response::new(StreamBody::new(endless(holding)).boxed()),
                _ => Response::new(full("short")),
            }
        }
    })
    .await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let slow_read = "-c 50 -X -w 10 -y 20 -n 5 -z 32 -k 3 -r 200 -p 3 -l 36";
    let (_, memory) = attack(&sidecar, "/endless", slow_read).await;
    until_nothing_is_in_flight(&sidecar).await;
    let held = held.lock().unwrap();
    let endless: Vec<_> = held.iter().filter(|held| **held > secs(10)).collect();
    assert!(endless.len() == 50, "{endless:?}");
    let bounds = secs(30)..=secs(32);
    assert!(endless.iter().all(|held| bounds.contains(*held)), "{endless:?}");
    // One full buffer each, and what two connections take.
    assert!(memory <= 50 * (64 + 2 * 20) * KIB, "{} KiB", memory / KIB);
}

/// A body without end.
fn endless(holding: Holding) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let piece = Bytes::from(vec![b'x'; 64 * KIB]);
    stream::unfold((piece, holding), |(piece, holding)| async {
        Some((Ok(Frame::data(piece.clone())), (piece, holding)))
    })
}

async fn until_nothing_is_in_flight(sidecar: &Sidecar) {
    eventually("nothing is in flight", secs(3), || async {
        let cluster = sidecar.cluster("api").await;
        (cluster["backends"][0]["in_flight"] == 0).then_some(())
    })
    .await;
}
