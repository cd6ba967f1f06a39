//! `WatchCluster`: a full set, then changes, from wherever a watcher is.

use outrigger_proto::v1;
use outrigger_tests::control::Caller;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::timeout;

use crate::{Known, config};

/// A cluster `api` of the endpoints in this file.
fn from_file(file: &std::path::Path) -> String {
    format!(
        "[clusters.api]\nremoval_hold = \"disabled\"\n[clusters.api.discovery]\n\
         source = \"file\"\npath = {file:?}\n"
    )
}

fn write(file: &std::path::Path, ports: std::ops::Range<u16>) {
    let endpoints: Vec<_> =
        ports.map(|port| format!("{{\"address\": \"10.0.0.1:{port}\"}}")).collect();
    let draft = file.with_extension("new");
    std::fs::write(&draft, format!("[{}]", endpoints.join(","))).unwrap();
    std::fs::rename(&draft, file).unwrap();
}

async fn weigh(sidecar: &Sidecar, backend: &str, weight: u32) {
    sidecar.order(backend, "weight", &format!("{{\"weight\": {weight}}}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watcher_is_told_all_and_then_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("endpoints.json");
    write(&file, 1..4);
    let sidecar = Sidecar::ready(&from_file(&file)).await;
    let caller = Caller::of(&sidecar).await;
    let (mut told, mut known) = (caller.watch().await.unwrap(), Known::default());
    known.take(&mut told).await;
    let names: Vec<_> = known.backends.keys().cloned().collect();
    assert_eq!(names, ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"]);
    assert!(known.backends.values().all(|backend| backend.state() == v1::State::Ready));

    weigh(&sidecar, "10.0.0.1:2", 5).await;
    let weighed = |backend: &v1::Backend| (backend.effective_weight, backend.share);
    known.until(&mut told, |all| weighed(&all["10.0.0.1:2"]) == (5.0, 5 * 256)).await;
    assert_eq!(known.backends["10.0.0.1:2"].orders.len(), 1);
    sidecar.drain("10.0.0.1:3", "1h").await;
    let drains = |backend: &v1::Backend| backend.state() == v1::State::Draining;
    known.until(&mut told, |all| drains(&all["10.0.0.1:3"])).await;
    assert!(known.backends["10.0.0.1:3"].drain_deadline.is_some());
    known.until(&mut told, |all| all["10.0.0.1:3"].drained).await;

    write(&file, 2..5);
    let there = |name: &'static str| {
        move |all: &std::collections::BTreeMap<String, v1::Backend>| all.contains_key(name)
    };
    known.until(&mut told, there("10.0.0.1:4")).await;
    known.until(&mut told, |all| !there("10.0.0.1:1")(all)).await;
    assert_eq!(known.full, 1, "what changes is told as a change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_goes_on_where_another_has_ended() {
    let sidecar = Sidecar::start(&config(500)).await;
    let (caller, mut known) = (Caller::of(&sidecar).await, Known::default());
    let mut told = caller.watch().await.unwrap();
    known.take(&mut told).await;
    assert_eq!(known.backends.len(), 500);
    assert!(known.messages > 2, "a large set is told in pieces");
    drop(told);

    weigh(&sidecar, "10.0.0.1:77", 3).await;
    let again = |instance: &str, version| v1::WatchClusterRequest {
        cluster: "api".into(),
        instance: instance.into(),
        version,
    };
    let mut control = caller.control();
    let first = |request| {
        let mut control = control.clone();
        async move {
            let mut told = control.watch_cluster(request).await.unwrap().into_inner();
            timeout(secs(5), told.message()).await.expect("it is told").unwrap().unwrap()
        }
    };
    let message = first(again(&known.instance, known.version)).await;
    assert!(!message.full && !message.more);
    assert_eq!(message.changed.len(), 1);
    assert_eq!(message.changed[0].effective_weight, 3.0);
    // Whoever has missed nothing is told so.
    let message = first(again(&known.instance, message.version)).await;
    assert!(!message.full && message.changed.is_empty() && message.removed.is_empty());
    // What another sidecar has said, or this one never, is of no use.
    for request in [again("another", known.version), again(&known.instance, 1 << 40)] {
        assert!(first(request).await.full);
    }
    let mut told = control.watch_cluster(again(&known.instance, known.version)).await.unwrap();
    known.take(told.get_mut()).await;
    assert_eq!(known.backends["10.0.0.1:77"].effective_weight, 3.0);
}

/// Somebody who does not read, and has not got all of the first set, finds the newest state, and not one of all the states in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_watcher_is_not_queued_for() {
    let sidecar = Sidecar::start(&config(5_000)).await;
    let (slow, other) = (Caller::of(&sidecar).await, Caller::of(&sidecar).await);
    let mut told = slow.watch().await.unwrap();
    let (mut now, mut known) = (other.watch().await.unwrap(), Known::default());
    known.take(&mut now).await;
    // Each change is one that the other has seen, so that they are not folded together before.
    for weight in 2..200 {
        weigh(&sidecar, "10.0.0.1:1", weight).await;
        known.until(&mut now, |all| all["10.0.0.1:1"].effective_weight == f64::from(weight)).await;
    }
    let mut late = Known::default();
    late.until(&mut told, |all| {
        all.get("10.0.0.1:1").is_some_and(|backend| backend.effective_weight == 199.0)
    })
    .await;
    assert_eq!(late.backends, known.backends);
    assert!(late.messages + 100 < known.messages, "{} and {}", late.messages, known.messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn at_the_end_watchers_are_told_that_it_is() {
    let mut sidecar = Sidecar::start(&config(2)).await;
    let caller = Caller::of(&sidecar).await;
    let (mut told, mut known) = (caller.watch().await.unwrap(), Known::default());
    known.take(&mut told).await;
    let (code, last) = tokio::join!(sidecar.stop(), told.message());
    assert_eq!((code, last.unwrap_err().code()), (0, tonic::Code::Unavailable));
}

/// A cluster without an answer is one without backends.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_watches_before_discovery_has_answered_is_told_when_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("endpoints.json");
    let sidecar = Sidecar::start(&from_file(&file)).await;
    let caller = Caller::of(&sidecar).await;
    let (mut told, mut known) = (caller.watch().await.unwrap(), Known::default());
    known.take(&mut told).await;
    assert!(known.backends.is_empty());
    write(&file, 1..3);
    known.until(&mut told, |all| all.len() == 2).await;
}
