//! Affinity where a request is tried more than once.

use outrigger_tests::backend::{Backend, RawBackend, config, full, unused_port};
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
