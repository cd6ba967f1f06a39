//! When backends are probed, and how verdicts add up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use ::http::{Response, StatusCode};
use outrigger_tests::backend::{Backend, RawBackend, config, full};
use outrigger_tests::client::{self, Client};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::{Instant, timeout};

use super::{checked, reason, with_status};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn fall_and_rise_count_and_take_their_time() {
    let status = Arc::new(AtomicU16::new(200));
    let (changing, steady) = (with_status(&status).await, Backend::start().await);
    let check = "[clusters.api.health]\nprobe = \"http\"\ninterval = \"300ms\"\n";
    let sidecar = Sidecar::ready(&(config(&[changing.address, steady.address], "") + check)).await;
    sidecar.until_state("api", &changing.name(), "ready", secs(2)).await;

    status.store(503, Ordering::Relaxed);
    let start = Instant::now();
    sidecar.until_state("api", &changing.name(), "unhealthy", secs(5)).await;
    let fell = start.elapsed();
    // Three failures, the first up to one interval away.
    assert!(fell >= millis(500) && fell <= millis(3 * 300 + 600), "{fell:?}");
    assert_eq!(reason(&sidecar, changing.address).await, "status 503");

    status.store(200, Ordering::Relaxed);
    let start = Instant::now();
    sidecar.until_state("api", &changing.name(), "ready", secs(5)).await;
    let rose = start.elapsed();
    assert!(rose >= millis(250) && rose <= millis(2 * 300 + 600), "{rose:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_probe_comes_soon_however_long_the_interval() {
    let backend = Backend::start().await;
    let check = "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"1h\"\n";
    let start = Instant::now();
    let sidecar = Sidecar::start(&(config(&[backend.address], "") + check)).await;
    assert_eq!(sidecar.states("api").await[0].1, "pending");
    assert_eq!(client::get(sidecar.web(), "/").await.unwrap().0, 503);
    assert_eq!(sidecar.get("/readyz").await.0, 503);
    sidecar.until_state("api", &backend.name(), "ready", secs(2)).await;
    assert!(start.elapsed() < millis(1500), "{:?}", start.elapsed());
    sidecar.until_ready().await;
    assert_eq!(client::get(sidecar.web(), "/").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_nobody_has_been_probed_at_the_start_timeout_all_are_used() {
    // Probes take longer than the start may.
    let mute =
        RawBackend::answering(b"GET / ", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false)
            .await;
    let check = "[clusters.api.health]\nprobe = \"http\"\npath = \"/never\"\ntimeout = \"60s\"\n";
    let config = config(&[mute.address], "") + check + "[runtime]\nstart_timeout = \"1s\"\n";
    let start = Instant::now();
    let sidecar = Sidecar::start(&config).await;
    assert_eq!(client::get(sidecar.web(), "/").await.unwrap().0, 503);
    sidecar.until_ready().await;
    assert!(start.elapsed() >= millis(900), "{:?}", start.elapsed());
    assert_eq!(sidecar.states("api").await[0].1, "pending");
    eventually("it is used", secs(2), || async {
        (client::get(sidecar.web(), "/").await.unwrap() == (200, "ok".into())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_fails_is_asked_at_its_own_pace() {
    let status = Arc::new(AtomicU16::new(503));
    let backend = with_status(&status).await;
    let keys = "probe = \"http\"\ninterval = \"1h\"\ninterval_unhealthy = \"100ms\"";
    let sidecar = Sidecar::ready(&checked(&[backend.address], keys)).await;
    assert_eq!(reason(&sidecar, backend.address).await, "status 503");
    status.store(200, Ordering::Relaxed);
    sidecar.until_state("api", &backend.name(), "ready", secs(5)).await;
}

/// Answers traffic, and questions about its health as it is told; counts the latter.
async fn asked_beside_traffic(healthy: &Arc<AtomicBool>) -> (Backend, Arc<AtomicUsize>) {
    let (healthy, probes) = (Arc::clone(healthy), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&probes);
    let backend = Backend::answering(move |request| {
        let mut response = Response::new(full("hello"));
        if request.uri().path() == "/health" {
            counted.fetch_add(1, Ordering::Relaxed);
            if !healthy.load(Ordering::Relaxed) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
        }
        async move { response }
    });
    (backend.await, probes)
}

/// One request after the other, all of which succeed.
async fn traffic(client: &mut Client, lasting: Duration) {
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        assert_eq!(client.get("/").await.unwrap().status(), StatusCode::OK);
    }
}

const OFTEN: &str = "probe = \"http\"\npath = \"/health\"\ninterval = \"400ms\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_busy_backend_is_left_alone_if_so_configured() {
    for skips in [true, false] {
        let (backend, probes) = asked_beside_traffic(&Arc::new(AtomicBool::new(true))).await;
        let keys = format!("{OFTEN}\nskip_when_busy = {skips}");
        let sidecar = Sidecar::ready(&checked(&[backend.address], &keys)).await;
        let mut client = Client::connect(sidecar.web()).await.unwrap();
        // The interval in which traffic begins may end with a probe.
        traffic(&mut client, millis(450)).await;
        let before = probes.load(Ordering::Relaxed);
        traffic(&mut client, millis(1500)).await;
        let during = probes.load(Ordering::Relaxed) - before;
        let probed = sidecar.metric("outrigger_probes_total", &[("result", "pass")]).await;
        if skips {
            assert_eq!(during, 0);
            assert_eq!(probed as usize, before, "what is skipped is no probe");
            eventually("an idle backend is probed again", secs(3), || async {
                (probes.load(Ordering::Relaxed) > before).then_some(())
            })
            .await;
        } else {
            assert!(during >= 3, "{during}");
        }
    }
}

/// In panic a failing backend gets traffic, which must not keep it from being asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn traffic_does_not_stand_for_the_probe_of_an_unhealthy_backend() {
    let healthy = Arc::new(AtomicBool::new(false));
    let (backend, probes) = asked_beside_traffic(&healthy).await;
    let keys = format!("{OFTEN}\nskip_when_busy = true");
    let sidecar = Sidecar::ready(&checked(&[backend.address], &keys)).await;
    assert_eq!(reason(&sidecar, backend.address).await, "status 503");
    let mut client = Client::connect(sidecar.web()).await.unwrap();
    let before = probes.load(Ordering::Relaxed);
    traffic(&mut client, millis(1500)).await;
    assert!(probes.load(Ordering::Relaxed) >= before + 3);
    healthy.store(true, Ordering::Relaxed);
    let recovery = async {
        while sidecar.states("api").await[0].1 != "ready" {
            traffic(&mut client, millis(20)).await;
        }
    };
    timeout(secs(5), recovery).await.expect("it is ready again");
}
