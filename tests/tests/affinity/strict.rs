//! `strict`: a client's own backend or nobody.

use std::sync::Arc;

use outrigger_tests::backend::Backend;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::world::{Browser, COOKIE, Caller, backends, gated, sticky};

/// Nobody who is asked for by a cookie or a key may be replaced; what names a backend that is not
/// there is no better.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whose_backend_may_not_be_used_gets_a_503_until_it_is_back() {
    for affinity in [
        "by = \"cookie\"\nstrict = true",
        "by = \"header\"\nstrict = true",
        "by = \"header\"\nlearned = true\nstrict = true",
    ] {
        let all: [Backend; 3] = backends().await;
        let brief = "[clusters.api.outlier]\nbase_ejection = \"1s\"\n";
        let sidecar = Sidecar::start(&(sticky(&all, affinity) + brief)).await;
        let mut caller = Caller::new(sidecar.web()).await;
        let first = caller.get(&[("x-outrigger-affinity", "someone")]).await;
        let cookie = first.set.clone().unwrap_or_default();
        let cookie = cookie.split(';').next().unwrap();
        let ours = [("x-outrigger-affinity", "someone"), ("cookie", cookie)];
        assert_eq!(caller.get(&ours).await.backend, first.backend);

        let own = all.iter().find(|backend| backend.name() == first.backend).unwrap();
        own.kill();
        // Three refusals eject it: from then on nobody asks it.
        for _ in 0..3 {
            let refused = caller.get(&ours).await;
            assert_eq!(
                (refused.status, refused.error.as_str()),
                (503, "connect_failed"),
                "{affinity}"
            );
        }
        sidecar.until_state("api", &first.backend, "ejected", secs(5)).await;
        let refused = caller.get(&ours).await;
        assert_eq!((refused.status, refused.error.as_str()), (503, "no_eligible_backend"));
        assert_eq!(refused.set, None);
        // Those without a key are none of its business.
        assert_eq!(caller.get(&[]).await.status, 200);

        let _back = Backend::at(own.address).await;
        // Its own client is the one that finds out.
        let end = Instant::now() + secs(20);
        let visit = loop {
            let visit = caller.get(&ours).await;
            if visit.status == 200 {
                break visit;
            }
            assert!(Instant::now() < end, "{affinity}: {visit:?}");
            tokio::time::sleep(millis(20)).await;
        };
        assert_eq!((&visit.backend, &visit.set), (&first.backend, &None), "{affinity}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_cookie_is_refused_and_no_cookie_is_welcome() {
    let all: [Backend; 2] = backends().await;
    let sidecar = Sidecar::start(&sticky(&all, "by = \"cookie\"\nstrict = true")).await;
    let mut caller = Caller::new(sidecar.web()).await;
    for bad in ["", "v1.x", "v1.00000000.0.0000000000000000.00000000000000000000000000000000"] {
        let refused = caller.with_cookie(bad).await;
        assert_eq!((refused.status, refused.error.as_str()), (503, "no_eligible_backend"), "{bad}");
    }
    let mut browser = Browser::new(sidecar.web()).await;
    assert_eq!(browser.visit().await.status, 200);
    browser.stays(10).await;
}

/// That it is busy is no reason to refuse: there is a queue for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whose_backend_is_at_its_limit_waits_for_it() {
    let gate = Arc::new(Semaphore::new(0));
    let all = [gated(&gate).await, gated(&gate).await];
    let limits = "[clusters.api.limits]\nbackend_max_requests = 1\nqueue_timeout = \"30s\"\n";
    let config = sticky(&all, "by = \"cookie\"\nstrict = true") + limits;
    let sidecar = Sidecar::start(&config).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let first = caller.get(&[]).await;
    let own = all.iter().find(|backend| backend.name() == first.backend).unwrap();
    let cookie = format!("{}={}", COOKIE, first.token());

    let (mut busy, slow) = (Caller::new(sidecar.web()).await, cookie.clone());
    let busy = tokio::spawn(async move { busy.get(&[("cookie", &slow), ("x-slow", "1")]).await });
    eventually("it is busy", secs(5), || async { (own.hits() == 2).then_some(()) }).await;
    let waiting = tokio::spawn(async move { caller.get(&[("cookie", &cookie)]).await });
    // Somebody without a cookie is served meanwhile, by the other one.
    let mut other = Caller::new(sidecar.web()).await;
    for _ in 0..10 {
        let visit = other.get(&[]).await;
        assert!(visit.status == 200 && visit.backend != first.backend, "{visit:?}");
    }
    assert!(!waiting.is_finished());
    gate.add_permits(1);
    assert_eq!(busy.await.unwrap().backend, first.backend);
    let waited = waiting.await.unwrap();
    assert_eq!((waited.status, waited.backend), (200, first.backend));
}
