//! Ten thousand connections as fast as one process can open them, without a word on any.

use std::net::SocketAddr;
use std::time::Duration;

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use crate::allow_open_files;

const CONNECTIONS: usize = 10_000;
/// Those that are opened at the same time.
const AT_A_TIME: usize = 50;
/// Many times what one takes, for a slow build on a busy machine.
const CPU_EACH: Duration = Duration::from_micros(250);
/// Since the last one came: the timeout that is configured, and what a busy machine may add.
const CLOSED_WITHIN: Duration = secs(10);

/// Of what one process may open, half is for those that stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_storm_of_silent_connections_passes_by() {
    allow_open_files();
    for protocol in ["http", "tcp"] {
        let backend = Backend::start().await;
        let listener = format!("[listeners.web]\nprotocol = \"{protocol}\"\n");
        let idle = match protocol {
            "http" => "[listeners.web.timeouts]\nidle = \"2s\"\n",
            _ => "[clusters.api.timeouts]\nidle = \"2s\"\n",
        };
        let config = config(&[backend.address], idle).replace("[listeners.web]\n", &listener);
        let sidecar = Sidecar::ready(&config).await;
        let before = sidecar.process.cpu();

        let (began, storm) = (Instant::now(), storm(sidecar.web()));
        let (slowest, stay) = served_during(sidecar.web(), storm).await;
        let took = began.elapsed();
        let spent = sidecar.process.cpu() - before;
        println!("{protocol}: {took:?}, {spent:?} of CPU, the slowest answer took {slowest:?}");
        assert!(slowest < secs(2), "{protocol}: {slowest:?}");
        assert!(spent < CPU_EACH * CONNECTIONS as u32, "{protocol}: {spent:?}");

        eventually("those that stay silent are closed", CLOSED_WITHIN, || async {
            let open = sidecar.metric("outrigger_connections_active", &[]).await;
            (open == 0.0).then_some(())
        })
        .await;
        let all = sidecar.metric("outrigger_connections_total", &[]).await;
        assert!(all >= CONNECTIONS as f64, "{protocol}: {all}");
        for mut app in stay {
            assert!(app.is_closed().await, "{protocol}");
        }
        until_idle(&sidecar).await;
    }
}

/// Every other one leaves at once; the others are returned.
async fn storm(address: SocketAddr) -> Vec<Raw> {
    let mut opening = JoinSet::new();
    for _ in 0..AT_A_TIME {
        opening.spawn(async move {
            let mut stay = Vec::new();
            for _ in 0..CONNECTIONS / AT_A_TIME / 2 {
                stay.push(Raw::connect(address).await);
                drop(TcpStream::connect(address).await.expect("it listens"));
            }
            stay
        });
    }
    opening.join_all().await.into_iter().flatten().collect()
}

/// Has requests answered, each over a connection of its own, until `work` is done: how long the slowest
/// took, and what came of the work.
async fn served_during<T>(address: SocketAddr, work: impl Future<Output = T>) -> (Duration, T) {
    let mut slowest = Duration::ZERO;
    let mut beats = interval(millis(20));
    tokio::pin!(work);
    loop {
        let request = async {
            beats.tick().await;
            let asked = Instant::now();
            let mut app = Raw::connect(address).await;
            app.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(app.answer().await.expect("an answer").status, 200);
            asked.elapsed()
        };
        tokio::select! {
            done = &mut work => return (slowest, done),
            took = request => slowest = slowest.max(took),
        }
    }
}

/// Waits until it takes next to no CPU.
async fn until_idle(sidecar: &Sidecar) {
    eventually("it rests", secs(5), || async {
        let (before, since) = (sidecar.process.cpu(), Instant::now());
        sleep(millis(200)).await;
        let spent = sidecar.process.cpu() - before;
        (spent < since.elapsed() / 20).then_some(())
    })
    .await;
}
