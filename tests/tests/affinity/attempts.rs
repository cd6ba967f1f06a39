//! Affinity where a request is tried more than once.

use outrigger_tests::backend::{Backend, RawBackend, config, full, serve, unused_port};
use outrigger_tests::millis;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;

use crate::world::{BY_COOKIE, Browser, Caller};

/// Patient sidecars: nobody is ejected.
const PATIENT: &str = "[clusters.api.outlier]\nenabled = false\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cookie_is_of_the_backend_that_answered_and_never_of_one_that_failed() {
    let alive = Backend::start().await;
    let mute = RawBackend::answering(b"", b"", true).await;
    let rude = Backend::answering(|_| async {
        let mut response = http::Response::new(full("no"));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        response
    })
    .await;
    let retry = "[clusters.api.retry]\nattempts = 3\nbudget = \"100%\"\non_status = [\"502\"]\n";
    for failing in [unused_port(), mute.address, rude.address] {
        let settings = format!("{BY_COOKIE}{PATIENT}{retry}");
        let sidecar = Sidecar::start(&config(&[alive.address, failing], &settings)).await;
        for _ in 0..6 {
            let mut browser = Browser::new(sidecar.web()).await;
            let first = browser.visit().await;
            assert_eq!((first.status, &first.backend), (200, &alive.name()), "{failing}");
            assert!(first.set.is_some());
            assert_eq!(browser.stays(3).await, alive.name(), "{failing}");
        }
    }

    // Where all fail nothing is set.
    let sidecar = Sidecar::start(&config(&[mute.address, unused_port()], BY_COOKIE)).await;
    let failed = Caller::new(sidecar.web()).await.get(&[]).await;
    assert!(failed.status >= 500 && failed.set.is_none(), "{failed:?}");
}

/// Backends that close a kept connection just as the next request comes.
async fn hasty() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\nX-Backend: {address}\r\nContent-Length: 0\r\n\r\n");
    let task = serve(listener, move |stream| {
        let answer = answer.clone();
        async move {
            let mut raw = Raw::from(stream);
            if raw.request().await.is_some() {
                raw.send(answer).await;
                raw.request().await;
            }
        }
    });
    (address, task)
}

/// That says nothing about the backend: the client is not moved for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_kept_connection_that_was_closed_moves_nobody() {
    let (a, b) = (hasty().await, hasty().await);
    for affinity in [BY_COOKIE, "[clusters.api.affinity]\nby = \"header\"\nlearned = true\n"] {
        let sidecar =
            Sidecar::start(&(config(&[a.0, b.0], affinity) + "[runtime]\nworkers = 1\n")).await;
        let mut caller = Caller::new(sidecar.web()).await;
        let first = caller.get(&[("x-outrigger-affinity", "someone")]).await;
        let cookie = first.set.clone().unwrap_or_default();
        let cookie = cookie.split(';').next().unwrap();
        for _ in 0..20 {
            let visit =
                caller.get(&[("x-outrigger-affinity", "someone"), ("cookie", cookie)]).await;
            assert_eq!((visit.status, &visit.backend), (200, &first.backend));
            assert_eq!(visit.set, None);
        }
        let retries = sidecar.metric("outrigger_retries_total", &[("result", "success")]).await;
        assert!(retries >= 5.0, "only {retries} kept connections were met");
    }
    drop((a.1, b.1));
}

/// A backend that takes 200 ms for everything.
async fn slow() -> Backend {
    Backend::answering(|_| async {
        tokio::time::sleep(millis(200)).await;
        http::Response::new(full("slow"))
    })
    .await
}

const HEDGE: &str = "[clusters.api.retry]\nhedge_after = \"20ms\"\nbudget = \"100%\"\n";

/// A second backend would not know the client, and the client would be moved because of one late
/// answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_stays_is_not_hedged() {
    let (slow, fast) = (slow().await, Backend::start().await);
    let dir = tempfile::tempdir().unwrap();
    let state = format!("[runtime]\nstate_dir = {:?}\n", dir.path().display().to_string());
    let config = config(&[slow.address, fast.address], BY_COOKIE) + &state;
    let plain = Sidecar::start(&config).await;
    let browser = Browser::of(plain.web(), &slow).await;

    let hedging = Sidecar::start(&(config + HEDGE)).await;
    let mut newcomer = Browser::new(hedging.web()).await;
    for _ in 0..4 {
        newcomer.cookie = None;
        assert_eq!(newcomer.visit().await.backend, fast.name());
    }
    let mut browser = browser.goes_to(hedging.web()).await;
    assert_eq!(browser.stays(4).await, slow.name());
}

/// A hashed key leads to the same backend the next time, whoever was faster once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hashed_keys_are_hedged_unless_they_are_strict() {
    let (slow, fast) = (slow().await, Backend::start().await);
    let key = |i: usize| format!("key {i}");
    let by_header = "[clusters.api.affinity]\nby = \"header\"\n";
    let plain = config(&[slow.address, fast.address], by_header);
    let sidecar = Sidecar::start(&plain).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let mut slow_keys = Vec::new();
    for i in 0..20 {
        if caller.get(&[("x-outrigger-affinity", &key(i))]).await.backend == slow.name() {
            slow_keys.push(key(i));
        }
    }
    assert!(!slow_keys.is_empty());
    let strict = plain.replace(by_header, &format!("{by_header}strict = true\n"));
    for (config, answers) in [(&plain, &fast), (&strict, &slow)] {
        let hedging = Sidecar::start(&(config.clone() + HEDGE)).await;
        let mut caller = Caller::new(hedging.web()).await;
        for key in slow_keys.iter().take(3) {
            let visit = caller.get(&[("x-outrigger-affinity", key)]).await;
            assert_eq!((visit.status, visit.backend), (200, answers.name()));
        }
    }
}
