//! Calls that change nothing: clusters, events, and the wait for a drain.

use outrigger_proto::v1;
use outrigger_tests::backend::{Backend, config as serving};
use outrigger_tests::control::Caller;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_types::StatusExt;

use crate::config;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_apis_tell_the_same() {
    let sidecar = Sidecar::start(&(config(3) + "[clusters.api]\npolicy = \"random\"\n")).await;
    sidecar.order("10.0.0.1:2", "weight", "{\"weight\": 7, \"ttl\": \"1h\"}").await;
    sidecar.drain("10.0.0.1:3", "1h").await;
    let mut control = Caller::of(&sidecar).await.control();
    let list = control.list_clusters(v1::ListClustersRequest::default()).await.unwrap();
    let [cluster] = &list.into_inner().clusters[..] else { panic!("one cluster") };
    let view = sidecar.cluster("api").await;
    assert_eq!(cluster.name, view["name"]);
    assert_eq!((&*cluster.policy, cluster.version), ("random", view["version"].as_u64().unwrap()));
    assert_eq!(cluster.backends.len(), 3);
    for (backend, view) in cluster.backends.iter().zip(view["backends"].as_array().unwrap()) {
        assert_eq!(backend.name, view["name"]);
        let state = backend.state().as_str_name().trim_start_matches("STATE_").to_lowercase();
        assert_eq!(state, view["state"].as_str().unwrap());
        // Both round what the clock says, each for itself.
        let until = |reason: &str| reason.split(", until ").next().unwrap().to_owned();
        assert_eq!(until(&backend.reason), until(view["reason"].as_str().unwrap()));
        assert_eq!(backend.configured_weight, view["weight"]["configured"].as_f64().unwrap());
        assert_eq!(backend.effective_weight, view["weight"]["effective"].as_f64().unwrap());
        assert_eq!(backend.source, view["source"].as_str().unwrap());
        assert_eq!(backend.drain_deadline.is_some(), view["drain_deadline"].is_string());
        assert_eq!(backend.orders.len(), view["orders"].as_array().unwrap().len());
    }
    let orders = &cluster.backends[1].orders;
    assert_eq!((&*orders[0].owner, &orders[0].kind), ("admin", &Some(v1::order::Kind::Weight(7))));
    assert!(orders[0].expires_at.is_some() && !orders[0].leased);
    // A share is relative to those of the others: 1 to 7, and none for who drains.
    let shares: Vec<_> = cluster.backends.iter().map(|backend| backend.share).collect();
    assert_eq!((shares[0] * 7, shares[2]), (shares[1], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_not_there_is_named() {
    let sidecar = Sidecar::start(&config(1)).await;
    let mut control = Caller::of(&sidecar).await.control();
    let of = |status: tonic::Status| {
        let resource = status.get_details_resource_info().expect("it says what is missing");
        (status.code(), resource.resource_type, resource.resource_name)
    };
    let missing = |kind: &str, name: &str| (Code::NotFound, kind.to_owned(), name.to_owned());
    let cluster = || "nobody".to_owned();
    let list = v1::ListClustersRequest { cluster: cluster() };
    let status = control.list_clusters(list).await.unwrap_err();
    assert_eq!(of(status), missing("cluster", "nobody"));
    let watch = v1::WatchClusterRequest { cluster: cluster(), ..Default::default() };
    let status = control.watch_cluster(watch).await.unwrap_err();
    assert_eq!(of(status), missing("cluster", "nobody"));
    let events = v1::ListEventsRequest { cluster: cluster(), ..Default::default() };
    let status = control.list_events(events).await.unwrap_err();
    assert_eq!(of(status), missing("cluster", "nobody"));
    let wait = v1::WaitDrainedRequest { cluster: "api".into(), backend: "10.0.0.1:2".into() };
    let status = control.wait_drained(wait).await.unwrap_err();
    assert_eq!(of(status), missing("backend", "10.0.0.1:2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn events_are_those_of_the_admin_api_and_are_waited_for() {
    let sidecar = Sidecar::start(&config(2)).await;
    let mut control = Caller::of(&sidecar).await.control();
    let all = control.list_events(v1::ListEventsRequest::default()).await.unwrap().into_inner();
    let kinds: Vec<_> = all.events.iter().map(|event| &*event.kind).collect();
    assert_eq!((kinds, all.latest), (vec!["joined", "joined"], 2));
    assert!(all.events[0].cause.starts_with("listed in the configuration"));

    let latest = all.latest;
    let after = move |wait: u64| v1::ListEventsRequest {
        cluster: "api".into(),
        after: latest,
        wait: Some(prost_types::Duration { seconds: wait.try_into().unwrap(), nanos: 0 }),
    };
    let start = Instant::now();
    let none = control.list_events(after(1)).await.unwrap().into_inner();
    assert_eq!((none.events.len(), none.latest), (0, 2));
    assert!(start.elapsed() >= millis(900), "{:?}", start.elapsed());

    let mut other = control.clone();
    let waiting = tokio::spawn(async move { other.list_events(after(60)).await });
    sidecar.drain("10.0.0.1:1", "5s").await;
    let news = timeout(secs(5), waiting).await.expect("it is told").unwrap().unwrap().into_inner();
    assert_eq!((&*news.events[0].kind, &*news.events[0].backend), ("draining", "10.0.0.1:1"));

    let mut wrong = after(0);
    wrong.wait = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let status = control.list_events(wrong).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!((status.code(), &*violations[0].field), (Code::InvalidArgument, "wait"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_is_waited_for_until_it_is_done_or_taken_back() {
    let never = Backend::answering(|_| std::future::pending()).await;
    let idle = Backend::start().await;
    let sidecar = Sidecar::ready(&serving(&[never.address, idle.address], "")).await;
    let control = Caller::of(&sidecar).await.control();
    let wait = |backend: &Backend| {
        let (mut control, backend) = (control.clone(), backend.name());
        let request = v1::WaitDrainedRequest { cluster: "api".into(), backend };
        async move { timeout(secs(10), control.wait_drained(request)).await.expect("it is over") }
    };
    assert!(wait(&idle).await.unwrap().into_inner().resumed, "it does not drain");
    sidecar.drain(&idle.name(), "1h").await;
    let done = wait(&idle).await.unwrap().into_inner();
    assert_eq!((done.resumed, done.forced), (false, 0));

    // What is under way keeps it, until that is taken back or cut.
    let address = sidecar.web();
    let request = tokio::spawn(async move { client::get(address, "/").await });
    eventually("it has work", secs(5), || async {
        (sidecar.in_flight("api", &never.name()).await == 1).then_some(())
    })
    .await;
    sidecar.drain(&never.name(), "1h").await;
    let waiting = tokio::spawn(wait(&never));
    eventually("somebody waits", secs(5), || async {
        let drain = &sidecar.backend(&never.name()).await["drain"];
        (drain["done"] == false).then_some(())
    })
    .await;
    assert!(!waiting.is_finished());
    sidecar.order(&never.name(), "resume", "").await;
    assert!(waiting.await.unwrap().unwrap().into_inner().resumed);

    sidecar.drain(&never.name(), "200ms").await;
    let cut = wait(&never).await.unwrap().into_inner();
    assert_eq!((cut.resumed, cut.forced), (false, 1));
    request.abort();
}
