//! Tunnels: what follows a switch of protocols, and how it ends.

use outrigger_tests::backend::{ByHand, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use rustix::process::Signal;
use tokio::time::Instant;

/// Deadlines are met up to 0.2 s late, and a machine that runs other tests adds some.
const LATE: std::time::Duration = millis(1500);

/// An open tunnel with both its ends.
struct Tunnel {
    sidecar: Sidecar,
    app: Raw,
    backend: Raw,
}

impl Tunnel {
    /// Opens one; `cluster` goes into the cluster's table, `rest` behind it.
    async fn open(cluster: &str, rest: &str) -> Self {
        let backend = ByHand::listen().await;
        let config = config(&[backend.address], cluster) + rest;
        let sidecar = Sidecar::ready(&config).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").await;
        let mut backend = backend.accept().await;
        backend.request().await.unwrap();
        backend.send("HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").await;
        assert_eq!(app.head().await.unwrap().status, 101);
        Self { sidecar, app, backend }
    }

    /// Both directions carry something.
    async fn works(&mut self) {
        self.app.send("to the backend").await;
        assert_eq!(self.backend.exactly(14).await, b"to the backend");
        self.backend.send("to the app").await;
        assert_eq!(self.app.exactly(10).await, b"to the app");
    }

    /// How attempts have ended so far: success, reset, cancelled.
    async fn outcomes(&self) -> [f64; 3] {
        let mut counts = [0.0; 3];
        for (count, outcome) in counts.iter_mut().zip(["success", "reset", "cancelled"]) {
            *count = self.sidecar.metric("outrigger_outcomes_total", &[("outcome", outcome)]).await;
        }
        counts
    }

    async fn until_outcomes(&self, wanted: [f64; 3]) {
        eventually(&format!("success, reset, cancelled: {wanted:?}"), secs(5), || async {
            (self.outcomes().await == wanted).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_has_said_all_still_hears_the_other() {
    let mut tunnel = Tunnel::open("", "").await;
    tunnel.works().await;
    tunnel.app.finish().await;
    assert!(tunnel.backend.is_closed().await);
    // More than any buffer on the way holds.
    let much = vec![b'b'; 16 << 20];
    let sending = async {
        tunnel.backend.send(&much).await;
        tunnel.backend.finish().await;
    };
    let (received, ()) = tokio::join!(tunnel.app.rest_and_end(), sending);
    assert!(received.0 == much && received.1.is_ok(), "{} {:?}", received.0.len(), received.1);
    tunnel.until_outcomes([1.0, 0.0, 0.0]).await;

    let mut tunnel = Tunnel::open("", "").await;
    tunnel.works().await;
    tunnel.backend.finish().await;
    assert!(tunnel.app.is_closed().await);
    let sending = async {
        tunnel.app.send(&much).await;
        tunnel.app.finish().await;
    };
    let (received, ()) = tokio::join!(tunnel.backend.rest_and_end(), sending);
    assert!(received.0 == much && received.1.is_ok(), "{} {:?}", received.0.len(), received.1);
    tunnel.until_outcomes([1.0, 0.0, 0.0]).await;
    eventually("no connection is left", secs(5), || async {
        let sidecar = &tunnel.sidecar;
        let up = sidecar.metric("outrigger_upstream_connections_active", &[]).await;
        let down = sidecar.metric("outrigger_connections_active", &[]).await;
        (up == 0.0 && down == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_side_that_breaks_off_breaks_the_other_and_only_the_backend_is_blamed_for_its_own() {
    let mut tunnel = Tunnel::open("", "").await;
    tunnel.works().await;
    let broken = Raw::connect(tunnel.sidecar.admin).await;
    std::mem::replace(&mut tunnel.backend, broken).reset();
    let (_, end) = tunnel.app.rest_and_end().await;
    assert!(end.is_err(), "the app would take what broke off for whole");
    tunnel.until_outcomes([0.0, 1.0, 0.0]).await;

    let mut tunnel = Tunnel::open("", "").await;
    tunnel.works().await;
    let broken = Raw::connect(tunnel.sidecar.admin).await;
    std::mem::replace(&mut tunnel.app, broken).reset();
    let (_, end) = tunnel.backend.rest_and_end().await;
    assert!(end.is_err(), "the backend would take what broke off for whole");
    tunnel.until_outcomes([0.0, 0.0, 1.0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_tunnel_is_closed_and_one_that_carries_anything_is_not() {
    let idle = millis(600);
    let mut tunnel = Tunnel::open("timeouts = { idle = \"600ms\" }", "").await;
    // A word in one direction is enough; in all longer than the limit for silence.
    let start = Instant::now();
    while start.elapsed() < 2 * idle {
        tokio::time::sleep(idle / 3).await;
        tunnel.backend.send("x").await;
        assert_eq!(tunnel.app.exactly(1).await, b"x");
    }
    let last = Instant::now();
    assert!(tunnel.backend.is_closed().await);
    let took = last.elapsed();
    assert!(took >= idle - millis(50) && took <= idle + LATE, "{took:?}");
    assert!(tunnel.app.is_closed().await);
    assert!(last.elapsed() <= idle + LATE);
    tunnel.until_outcomes([1.0, 0.0, 0.0]).await;

    // One whose one half is closed is not exempt.
    let mut tunnel = Tunnel::open("timeouts = { idle = \"600ms\" }", "").await;
    tunnel.app.finish().await;
    assert!(tunnel.backend.is_closed().await);
    let start = Instant::now();
    assert!(tunnel.app.is_closed().await);
    assert!(start.elapsed() <= idle + LATE);
}

/// Longer than the time that an answer may take to begin: a tunnel has no answer to wait for.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_timeout_of_requests_ends_a_tunnel() {
    let timeouts = "timeouts = { response = \"300ms\", stream_idle = \"300ms\" }";
    let mut tunnel = Tunnel::open(timeouts, "").await;
    let quiet = tokio::time::timeout(millis(1200), tunnel.app.is_closed()).await;
    assert!(quiet.is_err(), "the tunnel ended");
    tunnel.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_goes_on_while_the_sidecar_stops_and_ends_with_the_grace() {
    let grace = "[runtime]\nshutdown_grace = \"2s\"\n";
    let mut tunnel = Tunnel::open("", grace).await;
    let mut idle = Raw::connect(tunnel.sidecar.web()).await;
    let start = Instant::now();
    tunnel.sidecar.process.signal(Signal::TERM);
    tunnel.sidecar.process.line(secs(5), |line| line.contains("stopping").then_some(())).await;
    // Nothing new is taken from then on.
    assert!(idle.is_closed().await);
    tunnel.works().await;
    assert!(start.elapsed() < millis(1900), "too late to tell: {:?}", start.elapsed());
    assert_eq!(tunnel.sidecar.process.exit(secs(5)).await, 1);
    let took = start.elapsed();
    assert!(took >= millis(1950) && took < secs(2) + LATE, "{took:?}");
    tunnel.app.rest().await;
    tunnel.backend.rest().await;
    assert!(tunnel.sidecar.process.log().contains("shutdown_grace"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_that_ends_in_time_lets_the_sidecar_stop_cleanly() {
    let mut tunnel = Tunnel::open("", "").await;
    tunnel.sidecar.process.signal(Signal::TERM);
    tunnel.sidecar.process.line(secs(5), |line| line.contains("stopping").then_some(())).await;
    tunnel.works().await;
    tunnel.app.finish().await;
    assert!(tunnel.backend.is_closed().await);
    tunnel.backend.finish().await;
    assert!(tunnel.app.is_closed().await);
    assert_eq!(tunnel.sidecar.process.exit(secs(5)).await, 0);
}
