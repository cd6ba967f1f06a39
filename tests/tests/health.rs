//! Active checks: when backends are probed, and what their answers mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use http::{Response, StatusCode};
use outrigger_tests::backend::{Backend, RawBackend, config, full, unused_port};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, millis, secs};
use tokio::time::Instant;

/// A backend whose status the test sets.
async fn with_status(status: &Arc<AtomicU16>) -> Backend {
    let status = Arc::clone(status);
    Backend::answering(move |_| {
        let status = StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap();
        async move {
            let mut response = Response::new(full("status"));
            *response.status_mut() = status;
            response
        }
    })
    .await
}

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
    let cluster = sidecar.cluster("api").await;
    let view =
        cluster["backends"].as_array().unwrap().iter().find(|b| b["name"] == changing.name());
    assert_eq!(view.unwrap()["reason"], "status 503");
    assert_eq!(view.unwrap()["last_probe"]["result"], "fail");

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
async fn each_way_to_fail_is_named() {
    let mute = RawBackend::answering(b"never", b"", false).await;
    let babble = RawBackend::answering(b"\r\n\r\n", b"220 smtp.example\r\n", true).await;
    let dead = unused_port();
    let redirect = Arc::new(AtomicU16::new(302));
    let redirect = with_status(&redirect).await;
    let check = "[clusters.api.health]\nprobe = \"http\"\ntimeout = \"400ms\"\n";
    let all = [mute.address, babble.address, dead, redirect.address];
    let sidecar = Sidecar::ready(&(config(&all, "") + check)).await;
    let cluster = sidecar.cluster("api").await;
    let reason = |address: std::net::SocketAddr| {
        let backends = cluster["backends"].as_array().unwrap();
        let backend = backends.iter().find(|b| b["name"] == address.to_string()).unwrap();
        assert_eq!(backend["state"], "unhealthy", "{backend}");
        backend["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(mute.address), "no answer within 400ms");
    assert!(reason(babble.address).contains("invalid HTTP"), "{}", reason(babble.address));
    assert!(reason(dead).starts_with("connect: "), "{}", reason(dead));
    assert_eq!(reason(redirect.address), "status 302");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn probes_ask_as_configured() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        true,
    )
    .await;
    let check = "[clusters.api.health]\nprobe = \"http\"\npath = \"/up?deep=1\"\n\
                 expect_status = [\"200\", \"404-405\"]\n";
    let extra = format!("host = \"api.internal\"\n{check}");
    let sidecar = Sidecar::ready(&config(&[backend.address], &extra)).await;
    assert_eq!(sidecar.states("api").await[0].1, "ready");
    let probe = backend.received().concat().to_lowercase();
    assert!(probe.starts_with("get /up?deep=1 http/1.1\r\n"), "{probe}");
    assert!(probe.contains("host: api.internal\r\n"), "{probe}");
    assert!(probe.contains("user-agent: outrigger/"), "{probe}");
    assert!(probe.contains("connection: close\r\n"), "{probe}");
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
    outrigger_tests::eventually("it is used", secs(2), || async {
        (client::get(sidecar.web(), "/").await.unwrap() == (200, "ok".into())).then_some(())
    })
    .await;
}
