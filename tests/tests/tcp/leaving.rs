//! How a backend is left by those who are connected to it: by order, when it fails its checks, when
//! discovery drops it.

use std::path::Path;
use std::time::Duration;

use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until};

use super::world::{
    Server, addresses, assert_repeats, config, ends, greeted, greeted_by, tcp, until_ends,
};

/// Talks on until it is reset, and tells when that was.
fn talk(mut app: Raw) -> JoinHandle<Instant> {
    tokio::spawn(async move {
        let mut beats = interval(millis(50));
        loop {
            beats.tick().await;
            if app.try_send("word\n").await.is_err() || app.line().await.is_none() {
                return Instant::now();
            }
        }
    })
}

/// Whoever comes now is greeted by this one.
async fn goes_to(sidecar: &Sidecar, server: &Server) {
    for _ in 0..20 {
        assert_eq!(greeted(sidecar.web()).await.expect("somebody is there").1, server.name());
    }
}

async fn drains(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric("outrigger_drains_total", &[("result", result)]).await
}

/// Sooner never, later by what the spread and a busy machine may add.
fn assert_after(start: Instant, end: Instant, expected: Duration) {
    let took = end - start;
    let bounds = expected.saturating_sub(millis(300))..=expected + millis(1800);
    assert!(bounds.contains(&took), "{took:?} is not in {bounds:?}");
}

/// What each mode means for a connection that would go on.
async fn assert_left(sidecar: &Sidecar, mode: &str, left: Instant, talking: JoinHandle<Instant>) {
    match mode {
        "keep" => {
            sleep_until(left + secs(3)).await;
            assert!(!talking.is_finished(), "keep");
            assert_eq!(ends(sidecar, "drained").await, 0.0);
            talking.abort();
        }
        "drain" => {
            assert_after(left, talking.await.unwrap(), secs(1));
            until_ends(sidecar, "drained", 1).await;
        }
        "terminate" => {
            let took = talking.await.unwrap().saturating_duration_since(left);
            assert!(took < millis(800), "{took:?}");
            until_ends(sidecar, "drained", 1).await;
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_lets_connections_go_on_until_the_deadline() {
    let servers: [Server; 2] = Server::some().await;
    let sidecar = Sidecar::ready(&config(&addresses(&servers), "")).await;
    let [leaves, stays] = &servers;
    let talking = talk(greeted_by(sidecar.web(), leaves).await);
    let mut elsewhere = greeted_by(sidecar.web(), stays).await;
    let ordered = Instant::now();
    sidecar.drain(&leaves.name(), "2s").await;
    let accepted = leaves.accepted();
    goes_to(&sidecar, stays).await;
    assert_after(ordered, talking.await.unwrap(), secs(2));
    goes_to(&sidecar, stays).await;
    assert_eq!(leaves.accepted(), accepted);
    assert_repeats(&mut elsewhere).await;
    until_ends(&sidecar, "drained", 1).await;
    eventually("the drain is counted", secs(5), || async {
        (drains(&sidecar, "forced").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(drains(&sidecar, "completed").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_is_done_when_the_last_connection_has_ended_by_itself() {
    let servers: [Server; 2] = Server::some().await;
    let sidecar = Sidecar::ready(&config(&addresses(&servers), "")).await;
    let mut app = greeted_by(sidecar.web(), &servers[0]).await;
    sidecar.drain(&servers[0].name(), "30s").await;
    assert_repeats(&mut app).await;
    app.finish().await;
    assert!(app.is_closed().await);
    eventually("the drain is counted", secs(5), || async {
        (drains(&sidecar, "completed").await == 1.0).then_some(())
    })
    .await;
    assert_eq!((drains(&sidecar, "forced").await, ends(&sidecar, "drained").await), (0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_fails_its_checks_is_left_as_configured() {
    let left = ["keep", "drain", "terminate"].map(|mode| async move {
        // Checks are answered at a port of their own, the same for both.
        let page = Server::greeting().await;
        let at = |ip: [u8; 4], port: u16| Server::greeting_at((ip, port).into());
        let well = at([127, 0, 0, 2], page.address.port()).await;
        let (a, b) = (at([127, 0, 0, 1], 0).await, at([127, 0, 0, 2], 0).await);
        let rules = format!(
            "[clusters.api.drain]\ntimeout = \"1s\"\non_unhealthy = \"{mode}\"\n\
             [clusters.api.health]\nprobe = \"tcp\"\nport = {}\ninterval = \"100ms\"\nfall = 2\n",
            page.address.port()
        );
        let sidecar = Sidecar::ready(&config(&[a.address, b.address], &rules)).await;
        let talking = talk(greeted_by(sidecar.web(), &a).await);
        drop(page);
        sidecar.until_state("api", &a.name(), "unhealthy", secs(5)).await;
        let left = Instant::now();
        goes_to(&sidecar, &b).await;
        assert_left(&sidecar, mode, left, talking).await;
        drop(well);
    });
    futures_util::future::join_all(left).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_discovery_drops_is_left_as_configured() {
    let left = ["keep", "drain", "terminate"].map(|mode| async move {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("endpoints.json");
        let [a, b]: [Server; 2] = Server::some().await;
        std::fs::write(&list, listing(&[&a, &b])).unwrap();
        let sidecar = Sidecar::ready(&from_file(&list, mode)).await;
        let talking = talk(greeted_by(sidecar.web(), &a).await);
        std::fs::write(&list, listing(&[&b])).unwrap();
        eventually("it is left", secs(5), || async {
            let states = sidecar.states("api").await;
            let here = states.iter().any(|(name, state)| *name == a.name() && state != "draining");
            (!here).then_some(())
        })
        .await;
        let left = Instant::now();
        goes_to(&sidecar, &b).await;
        assert_left(&sidecar, mode, left, talking).await;
        let counted = match mode {
            "keep" => "completed",
            _ => "forced",
        };
        eventually(&format!("{mode} is counted as {counted}"), secs(5), || async {
            (drains(&sidecar, counted).await == 1.0).then_some(())
        })
        .await;
        sidecar.until_members("api", vec![b.name()], secs(5)).await;
    });
    futures_util::future::join_all(left).await;
}

fn listing(servers: &[&Server]) -> String {
    let items: Vec<_> =
        servers.iter().map(|server| format!("{{\"address\": \"{}\"}}", server.address)).collect();
    format!("{{\"endpoints\": [{}]}}", items.join(", "))
}

fn from_file(list: &Path, mode: &str) -> String {
    tcp(&format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api.drain]\ntimeout = \"1s\"\non_removal = \"{mode}\"\n\
         [clusters.api.discovery]\nsource = \"file\"\npath = \"{}\"\n",
        list.display()
    ))
}
