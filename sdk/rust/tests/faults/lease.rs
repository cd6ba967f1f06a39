//! Leases, over the lives of sidecars.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrigger_proto::v1::{set_affinity_request, set_weight_request};
use outrigger_sdk::{Error, Lease};
use tonic::Status;

use crate::eventually;
use crate::fake::{Asked, Sidecar};

/// Weights that were ordered under a lease: backend, weight or factor.
fn weights(sidecar: &Sidecar, lease: &str) -> Vec<(String, f64)> {
    let under = set_weight_request::Lifetime::LeaseId(lease.into());
    let asked = sidecar.script.asked().into_iter();
    let of_lease = asked.filter_map(|asked| match asked {
        Asked::Weight(order) if order.lifetime.as_ref() == Some(&under) => Some(order),
        _ => None,
    });
    let mut weights: Vec<_> = of_lease
        .map(|order| match order.change.unwrap() {
            set_weight_request::Change::Weight(weight) => (order.backend, f64::from(weight)),
            set_weight_request::Change::Factor(factor) => (order.backend, factor),
        })
        .collect();
    weights.sort_by(|a, b| a.partial_cmp(b).unwrap());
    weights
}

async fn until_held(lease: &Lease, id: &str) {
    eventually("the lease is open again", async || (lease.id().await.ok()? == id).then_some(()))
        .await;
}

#[tokio::test]
async fn what_was_ordered_and_not_taken_back_is_ordered_again() {
    let mut sidecar = Sidecar::start();
    let lease = sidecar.client().lease("shop").await.unwrap();
    lease.set_weight("api", "a", 1).await.unwrap();
    lease.set_weight("api", "a", 2).await.unwrap();
    lease.scale_weight("api", "a", 0.5).await.unwrap();
    lease.set_weight("api", "b", 3).await.unwrap();
    lease.clear_weight("api", "b").await.unwrap();
    lease.drain("api", "c", None).await.unwrap();
    lease.drain("api", "d", None).await.unwrap();
    lease.resume("api", "d").await.unwrap();
    "e".clone_into(&mut sidecar.script.home.lock().unwrap());
    assert_eq!(lease.set_affinity("api", "k", None).await.unwrap(), "e");
    lease.set_affinity("api", "gone", Some("a")).await.unwrap();
    lease.clear_affinity("api", "gone").await.unwrap();
    sidecar.script.fail(&Status::invalid_argument("no"), 1);
    lease.set_weight("api", "x", 70_000).await.unwrap_err();

    sidecar.kill();
    let before = sidecar.script.asked().len();
    eventually("orders fail meanwhile", async || {
        lease.set_weight("api", "y", 1).await.err().filter(Error::is_unavailable)
    })
    .await;
    sidecar.start_again();
    until_held(&lease, "lease 2").await;
    assert_eq!(weights(&sidecar, "lease 2"), [("a".into(), 0.5)], "the factor was the last");
    let again = sidecar.script.asked().split_off(before);
    let drains = again.iter().filter_map(|asked| match asked {
        Asked::Drain(order) => Some(order.backend.as_str()),
        _ => None,
    });
    assert_eq!(drains.collect::<Vec<_>>(), ["c"]);
    let pins = again.iter().filter_map(|asked| match asked {
        Asked::Pin(order) => {
            Some((order.key.as_str(), order.backend.as_str(), order.lifetime.clone()))
        }
        _ => None,
    });
    let lifetime = Some(set_affinity_request::Lifetime::LeaseId("lease 2".into()));
    assert_eq!(pins.collect::<Vec<_>>(), [("k", "e", lifetime)], "it is where it was");
}

/// Backends that the new sidecar has not found yet are no reason to forget what was ordered of them.
#[tokio::test]
async fn what_cannot_be_ordered_again_yet_is_tried_again() {
    let mut sidecar = Sidecar::start();
    let lease = sidecar.client().lease("shop").await.unwrap();
    for backend in ["a", "b"] {
        lease.set_weight("api", backend, 1).await.unwrap();
    }
    sidecar.kill();
    sidecar.script.unknown.lock().unwrap().push("a".into());
    sidecar.start_again();
    until_held(&lease, "lease 2").await;
    let asked = |backend| {
        let asked = weights(&sidecar, "lease 2");
        asked.iter().filter(|(asked, _)| asked == backend).count()
    };
    eventually("it is tried again", async || (asked("a") >= 3).then_some(())).await;
    assert_eq!(asked("b"), 1);
    sidecar.script.unknown.lock().unwrap().clear();
    let before = asked("a");
    eventually("it is ordered", async || (asked("a") > before).then_some(())).await;
}

/// A sidecar that ends every lease at once, as one that stops may, is not asked all the time.
#[tokio::test]
async fn a_lease_that_ends_at_once_is_opened_again_slowly() {
    let sidecar = Sidecar::start();
    sidecar.script.ends_leases.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let _lease = sidecar.client().lease("shop").await.unwrap();
    let opened = || sidecar.script.count(|asked| matches!(asked, Asked::Lease { .. }));
    eventually("it is opened some times", async || (opened() >= 10).then_some(())).await;
    // Each pause is at least half of 50 ms.
    assert!(started.elapsed() >= Duration::from_millis(9 * 25), "{:?}", started.elapsed());
}

/// An id that the sidecar does not know means that it is another sidecar: that passes.
#[tokio::test]
async fn a_lease_that_is_not_known_is_about_to_be_opened_again() {
    use tonic_types::{ErrorDetails, StatusExt};
    let sidecar = Sidecar::start();
    let lease = sidecar.client().lease("shop").await.unwrap();
    let details = ErrorDetails::with_resource_info("lease", "lease 1", "", "");
    sidecar.script.fail(&Status::with_error_details(tonic::Code::NotFound, "no lease", details), 1);
    let error = lease.set_weight("api", "a", 1).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn it_ends_when_the_app_says_so_or_drops_it() {
    let sidecar = Sidecar::start();
    let client = sidecar.client();
    let lease = client.lease("shop").await.unwrap();
    lease.end().await.unwrap();
    drop(client.lease("shop").await.unwrap());
    let opened = Asked::Lease { owner: "shop".into() };
    assert_eq!(sidecar.script.asked(), [opened.clone(), opened]);
}
