//! What is counted: each connection once, each byte once.

use outrigger_tests::backend::{ByHand, unused_port};
use outrigger_tests::eventually;
use outrigger_tests::raw::Raw;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use super::world::{Pattern, assert_reset, assert_turned_away, config, ends, outcomes, until_ends};

/// Enough for both ways of moving bytes.
const MUCH: usize = 8 << 20;

/// Says so much to each other, and then ends as told.
async fn carry(sidecar: &Sidecar, backend: &ByHand, up: usize, down: usize) -> (Raw, Raw) {
    let mut app = Raw::connect(sidecar.web()).await;
    let mut served = backend.accept().await;
    let (mut asked, mut heard) = (Pattern::new(1), Pattern::new(1));
    tokio::join!(asked.send(&mut app.stream, up), heard.expect(&mut served.stream, up));
    let (mut said, mut answered) = (Pattern::new(2), Pattern::new(2));
    tokio::join!(said.send(&mut served.stream, down), answered.expect(&mut app.stream, down));
    (app, served)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_ends_outcomes_and_bytes_add_up() {
    let backend = ByHand::listen().await;
    let name = backend.address.to_string();
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    // Known series are there from the start.
    let (_, page) = sidecar.get("/metrics").await;
    for reason in ["finished", "app_reset", "backend_reset", "idle", "max_age", "drained"] {
        let series = format!(
            "outrigger_connection_ends_total{{listener=\"web\",outrigger_cluster=\"api\",reason=\"{reason}\"}} 0"
        );
        assert!(page.contains(&series), "{series} in\n{page}");
    }

    let (mut up, mut down) = (0, 0);
    for (count, (sent, got)) in
        [(0, 0), (1, 0), (0, 1), (1000, 3), (MUCH, 1), (7, MUCH)].iter().enumerate()
    {
        let (mut app, mut served) = carry(&sidecar, &backend, *sent, *got).await;
        app.finish().await;
        assert!(served.is_closed().await);
        served.finish().await;
        assert!(app.is_closed().await);
        until_ends(&sidecar, "finished", count + 1).await;
        (up, down) = (up + sent, down + got);
    }
    for count in 1..=3 {
        let (app, mut served) = carry(&sidecar, &backend, 10, 20).await;
        app.reset();
        assert_reset(&mut served).await;
        until_ends(&sidecar, "app_reset", count).await;
        (up, down) = (up + 10, down + 20);
    }
    for count in 1..=2 {
        // One that has answered, and one that has not.
        let (mut app, served) = carry(&sidecar, &backend, 30, 5 * (count - 1)).await;
        served.reset();
        assert_reset(&mut app).await;
        until_ends(&sidecar, "backend_reset", count).await;
        (up, down) = (up + 30, down + 5 * (count - 1));
    }
    let (mut app, mut served) = carry(&sidecar, &backend, 1, 1).await;
    (up, down) = (up + 1, down + 1);

    let metric = async |name: &str, labels: &[(&str, &str)]| sidecar.metric(name, labels).await;
    assert_eq!(metric("outrigger_connections_total", &[("listener", "web")]).await, 12.0);
    assert_eq!(metric("outrigger_connections_active", &[]).await, 1.0);
    let all_ends = metric("outrigger_connection_ends_total", &[("outrigger_cluster", "api")]).await;
    assert_eq!(all_ends, 11.0);
    assert_eq!(metric("outrigger_upstream_connections_total", &[("backend", &name)]).await, 12.0);
    assert_eq!(sidecar.in_flight("api", &name).await, 1);
    for (outcome, count) in [
        ("success", 6.0),
        ("cancelled", 3.0),
        ("reset", 2.0),
        ("timeout", 0.0),
        ("connect_failed", 0.0),
    ] {
        assert_eq!(outcomes(&sidecar, &name, outcome).await, count, "{outcome}");
    }
    let bytes = async |way: &str| metric("outrigger_bytes_total", &[("direction", way)]).await;
    assert_eq!(bytes("to_backend").await, up as f64);
    assert_eq!(bytes("from_backend").await, down as f64);
    assert_eq!(metric("outrigger_errors_total", &[]).await, 0.0);

    app.finish().await;
    assert!(served.is_closed().await);
    served.finish().await;
    until_ends(&sidecar, "finished", 7).await;
    eventually("nothing is open, and durations are folded in", secs(5), || async {
        let active = metric("outrigger_connections_active", &[]).await
            + metric("outrigger_upstream_connections_active", &[]).await;
        let lasted = metric("outrigger_connection_duration_seconds_count", &[]).await;
        (active == 0.0 && lasted == 12.0).then_some(())
    })
    .await;
}

/// Each backend that was asked, and the connection once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_finds_nobody_is_counted_once() {
    let dead = [unused_port(), unused_port()];
    let sidecar = Sidecar::start(&config(&dead, "")).await;
    assert_turned_away(sidecar.web()).await;
    until_ends(&sidecar, "connect_failed", 1).await;
    for name in dead.map(|address| address.to_string()) {
        assert_eq!(outcomes(&sidecar, &name, "connect_failed").await, 1.0);
    }
    let metric = async |name: &str, labels: &[(&str, &str)]| sidecar.metric(name, labels).await;
    assert_eq!(metric("outrigger_retries_total", &[("result", "failure")]).await, 1.0);
    assert_eq!(metric("outrigger_retries_total", &[("result", "success")]).await, 0.0);
    assert_eq!(metric("outrigger_errors_total", &[("reason", "connect_failed")]).await, 1.0);
    assert_eq!(ends(&sidecar, "finished").await, 0.0);
}
