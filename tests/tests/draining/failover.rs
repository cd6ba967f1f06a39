//! What happens to the work of a backend that fails its probes, or that discovery drops: `keep`,
//! `drain` or `terminate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Response, StatusCode};
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::bind::{Bind, SERVICE, srv};
use outrigger_tests::raw::exchange;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::world::{Download, Worker, assert_after, download};

/// What each mode means for a download that begins before and would take ten seconds.
async fn assert_left(mode: &str, left: Instant, downloading: JoinHandle<Download>) {
    if mode == "keep" {
        sleep_until(left + secs(3)).await;
        assert!(!downloading.is_finished());
        return;
    }
    let cut = downloading.await.unwrap();
    assert!(!cut.whole);
    match mode {
        "drain" => assert_after(left, cut.at, secs(1), secs(1)),
        "terminate" => assert!(cut.at - left < millis(500), "{:?}", cut.at - left),
        other => panic!("{other}"),
    }
}

async fn download_from(sidecar: &Sidecar, backend: &str) -> JoinHandle<Download> {
    eventually("a download from it", secs(5), || async {
        let (from, watched) = download(sidecar.web(), "none").await;
        (from == backend).then_some(watched)
    })
    .await
}

/// What comes now goes to this one.
async fn goes_to(sidecar: &Sidecar, backend: &str) {
    for _ in 0..4 {
        let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer.header("x-backend"), [backend]);
    }
}

/// Its health page says so when it is told to be ill.
async fn checked() -> (Worker, Backend, Arc<AtomicBool>) {
    let ill = Arc::<AtomicBool>::default();
    let told = Arc::clone(&ill);
    let page = Backend::answering(move |_| {
        let mut response = Response::new(full("health"));
        if told.load(Ordering::Relaxed) {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        async { response }
    })
    .await;
    (Worker::start().await, page, ill)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_fails_its_probes_is_left_as_configured() {
    for mode in ["keep", "drain", "terminate"] {
        // Its page is at a port of its own, where the other backend has none: that one is on
        // another address, whose probes are answered there.
        let (a, page, ill) = checked().await;
        let well = Backend::at((std::net::Ipv4Addr::new(127, 0, 0, 2), page.address.port()).into());
        let (well, b) = (well.await, Worker::start_at([127, 0, 0, 2]).await);
        let rules = format!(
            "[clusters.api.drain]\ntimeout = \"1s\"\non_unhealthy = \"{mode}\"\n\
             [clusters.api.health]\nprobe = \"http\"\nport = {}\ninterval = \"100ms\"\nfall = 2\n",
            page.address.port()
        );
        let sidecar = Sidecar::ready(&config(&[a.address(), b.address()], &rules)).await;
        let downloading = download_from(&sidecar, &a.name()).await;
        ill.store(true, Ordering::Relaxed);
        sidecar.until_state("api", &a.name(), "unhealthy", secs(5)).await;
        let left = Instant::now();
        goes_to(&sidecar, &b.name()).await;
        assert_left(mode, left, downloading).await;
        drop(well);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_discovery_drops_is_left_as_configured() {
    for mode in ["keep", "drain", "terminate"] {
        let (a, b) = (Worker::start().await, Worker::start().await);
        let zone = srv(10, 50, a.address(), "a") + &srv(10, 50, b.address(), "b");
        let bind = Bind::start(&zone).await;
        let rules = format!("[clusters.api.drain]\ntimeout = \"1s\"\non_removal = \"{mode}\"\n");
        let sidecar = Sidecar::ready(&bind.config(&rules)).await;
        let downloading = download_from(&sidecar, &a.name()).await;
        let record = format!("{SERVICE}. SRV 10 50 {} a.test.internal.", a.address().port());
        bind.update(&format!("update delete {record}")).await;
        let is_left = async |name: String| {
            let states = sidecar.states("api").await;
            states.iter().all(|(backend, state)| *backend != name || state == "draining")
        };
        eventually("it is left", secs(5), || async { is_left(a.name()).await.then_some(()) }).await;
        let left = Instant::now();
        goes_to(&sidecar, &b.name()).await;
        assert_left(mode, left, downloading).await;
        if mode != "keep" {
            sidecar.until_members("api", vec![b.name()], secs(5)).await;
        }
    }
}
