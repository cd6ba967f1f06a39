//! Every call, as it should be.

use outrigger_sdk::{Change, Outcome, Reason, State};
use outrigger_tests::load::burst;
use outrigger_tests::{millis, secs};

use crate::world::{TTL, World, backends};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clusters_are_as_the_admin_api_shows_them() {
    let all = backends::<2>().await;
    let world = World::start(&all.each_ref().map(|b| b.address), "policy = \"peak_ewma\"").await;
    let clusters = world.client.clusters().await.unwrap();
    assert_eq!(clusters.len(), 1);
    let cluster = world.client.cluster("api").await.unwrap();
    assert_eq!((cluster.name.as_str(), cluster.policy.as_str()), ("api", "peak_ewma"));
    assert_eq!((cluster.panic, cluster.stale_since, cluster.pins), (false, None, 0));
    assert_eq!(cluster.backends.len(), 2);
    let seen = world.backend(&all[0].name()).await;
    assert_eq!(
        (seen.state, seen.reason.as_str(), seen.source.as_str()),
        (State::Ready, "", "static")
    );
    assert_eq!((seen.configured_weight, seen.effective_weight), (1.0, 1.0));
    assert!(seen.share > 0 && seen.orders.is_empty() && !seen.drained, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn shares_follow_weights_and_factors_until_they_are_taken_back() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let share = async || burst(world.sidecar.web(), 2, 200).await.share(a.address);
    let ordered = world.client.set_weight("api", &a.name(), 3, TTL).await.unwrap();
    assert_eq!((ordered.configured_weight, ordered.effective_weight), (1.0, 3.0));
    let [order] = ordered.orders.as_slice() else { panic!("{ordered:?}") };
    assert_eq!(
        (order.owner.as_str(), order.change, order.leased),
        ("shop", Change::Weight(3), false)
    );
    assert!((share().await - 75.0).abs() < 2.0);

    let ordered = world.client.scale_weight("api", &b.name(), 9.0, TTL).await.unwrap();
    assert_eq!(ordered.effective_weight, 9.0);
    assert!((share().await - 25.0).abs() < 2.0);

    for name in [a.name(), b.name()] {
        let cleared = world.client.clear_weight("api", &name).await.unwrap();
        assert!(cleared.effective_weight == 1.0 && cleared.orders.is_empty(), "{cleared:?}");
    }
    assert!((share().await - 50.0).abs() < 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_is_pinned_where_it_is_told_or_where_it_would_go() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let client = &world.client;
    assert_eq!(client.affinity("api", "k").await.unwrap().reason, Reason::Policy);
    for backend in [&a, &b] {
        let pinned = client.set_affinity("api", "k", Some(&backend.name()), TTL).await.unwrap();
        assert_eq!(pinned, backend.name());
        let affinity = client.affinity("api", "k").await.unwrap();
        assert_eq!((affinity.reason, affinity.backend), (Reason::Pin, Some(backend.name())));
        assert_eq!(affinity.pinned_to, Some(backend.name()));
        let pin = affinity.pin.unwrap();
        assert_eq!((pin.owner.as_str(), pin.change, pin.leased), ("shop", Change::Pin, false));
    }
    assert_eq!(client.set_affinity("api", "k", None, TTL).await.unwrap(), b.name(), "it stays");
    let anywhere = client.set_affinity("api", "other", None, TTL).await.unwrap();
    assert!([a.name(), b.name()].contains(&anywhere), "{anywhere}");
    assert!(client.clear_affinity("api", "k").await.unwrap());
    assert!(!client.clear_affinity("api", "k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_drains_is_waited_for_and_resumes() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let draining = world.client.drain("api", &a.name(), Some(secs(20)), TTL).await.unwrap();
    assert_eq!((draining.state, draining.share), (State::Draining, 0));
    assert!(draining.drain_deadline.is_some());
    let drained = world.client.wait_drained("api", &a.name()).await.unwrap();
    assert_eq!((drained.forced, drained.resumed), (0, false));
    assert_eq!(burst(world.sidecar.web(), 2, 50).await.of(a.address), 0);
    let resumed = world.client.resume("api", &a.name()).await.unwrap();
    assert_eq!(resumed.state, State::Ready);
    assert_eq!(burst(world.sidecar.web(), 2, 50).await.of(a.address), 50);
}

/// What the app has seen of a backend ejects it, as if the sidecar had.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn failures_that_are_reported_eject() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let report = async |outcome, latency, count| {
        world.client.report("api", &a.name(), outcome, latency, count).await.unwrap();
    };
    report(Outcome::Success, Some(millis(40)), 100).await;
    world.until(&a.name(), "measured", |seen| seen.ewma.is_some()).await;
    report(Outcome::ConnectFailed, None, 3).await;
    world.until(&a.name(), "ejected", |seen| seen.state == State::Ejected).await;
    let labels = [("backend", a.name()), ("outcome", "connect_failed".into())];
    let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(world.sidecar.metric("outrigger_outcomes_total", &labels).await, 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn events_come_with_their_cause_and_may_be_waited_for() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let before = world.client.events(Some("api"), 0, secs(0)).await.unwrap();
    assert!(before.events.iter().any(|event| event.kind == "joined"), "{before:?}");
    let client = world.client.clone();
    let waiting =
        tokio::spawn(async move { client.events(Some("api"), before.latest, secs(30)).await });
    world.client.drain("api", &b.name(), None, TTL).await.unwrap();
    let came = waiting.await.unwrap().unwrap();
    let event = &came.events[0];
    assert_eq!((event.kind.as_str(), &event.backend), ("draining", &Some(b.name())));
    assert!(event.cause.contains("shop"), "{event:?}");
    assert!(event.id > before.latest && came.latest >= event.id, "{came:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pick_is_explained() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    world.client.set_affinity("api", "k", Some(&b.name()), TTL).await.unwrap();
    let explanation = world.client.explain("api", Some("k")).await.unwrap();
    assert_eq!((explanation.picked, explanation.reason), (Some(b.name()), Reason::Pin));
    let explanation = world.client.explain("api", None).await.unwrap();
    assert_eq!(explanation.reason, Reason::Policy);
    assert_eq!(explanation.backends.len(), 2);
    assert!(explanation.backends.iter().all(|one| one.share == 0.5), "{explanation:?}");
}
