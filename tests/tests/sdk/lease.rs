//! Orders end with the app that has given them, or with their time, and are given again to a sidecar that
//! has restarted.

use std::time::{Duration, SystemTime};

use outrigger_sdk::{Backend, Change, Error, State};
use outrigger_tests::load::burst;
use outrigger_tests::{eventually, millis, secs};

use crate::world::{World, backends};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn orders_end_with_their_lease() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let lease = world.client.lease("app").await.unwrap();
    let other = world.client.lease("app").await.unwrap();
    let ordered = lease.set_weight("api", &a.name(), 0).await.unwrap();
    assert!(ordered.orders[0].leased && ordered.orders[0].owner == "app", "{ordered:?}");
    lease.set_affinity("api", "k", Some(&a.name())).await.unwrap();
    other.drain("api", &b.name(), None).await.unwrap();

    lease.end().await.unwrap();
    assert_eq!(world.client.cluster("api").await.unwrap().pins, 0);
    let [first, second] = [world.backend(&a.name()).await, world.backend(&b.name()).await];
    assert!(first.orders.is_empty() && first.effective_weight == 1.0, "{first:?}");
    assert_eq!(second.state, State::Draining, "another lease goes on");
    drop(other);
    world.until(&b.name(), "back", |seen| seen.state == State::Ready).await;
}

/// A lease takes its own orders back, and not those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_takes_back_its_own() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let lease = world.client.lease("app").await.unwrap();
    let name = a.name();
    world.client.set_weight("api", &name, 7, secs(60)).await.unwrap();
    lease.set_weight("api", &name, 3).await.unwrap();
    let scaled = lease.scale_weight("api", &name, 0.5).await.unwrap();
    assert_eq!((scaled.effective_weight, scaled.orders.len()), (3.5, 2), "it replaces its weight");
    let cleared = lease.clear_weight("api", &name).await.unwrap();
    assert_eq!(cleared.orders.len(), 1, "{cleared:?}");
    assert_eq!((cleared.orders[0].change, cleared.effective_weight), (Change::Weight(7), 7.0));
    lease.drain("api", &b.name(), None).await.unwrap();
    assert_eq!(lease.resume("api", &b.name()).await.unwrap().state, State::Ready);
    lease.set_affinity("api", "k", None).await.unwrap();
    assert!(lease.clear_affinity("api", "k").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_ends_at_its_time() {
    let [a] = backends().await;
    let world = World::start(&[a.address], "").await;
    let ordered = world.client.set_weight("api", &a.name(), 9, secs(1)).await.unwrap();
    let end = ordered.orders[0].expires_at.unwrap();
    let last_seen = async {
        let mut last = SystemTime::now();
        while !world.backend(&a.name()).await.orders.is_empty() {
            last = SystemTime::now();
        }
        last
    };
    let last_seen = tokio::time::timeout(secs(5), last_seen).await.unwrap();
    let off = end.duration_since(last_seen).unwrap_or_else(|error| error.duration());
    assert!(off < millis(200), "off by {off:?}");
}

/// The sidecar's death ends all orders; those of leases are there again soon after it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn orders_under_a_lease_outlive_the_sidecar() {
    let [a, b, c] = backends().await;
    let mut world = World::start(&[a.address, b.address, c.address], "").await;
    let lease = world.client.lease("app").await.unwrap();
    let before = lease.id().await.unwrap();
    lease.set_weight("api", &a.name(), 4).await.unwrap();
    lease.scale_weight("api", &a.name(), 2.5).await.unwrap();
    lease.drain("api", &b.name(), None).await.unwrap();
    lease.drain("api", &c.name(), None).await.unwrap();
    lease.resume("api", &c.name()).await.unwrap();
    lease.set_affinity("api", "k", Some(&c.name())).await.unwrap();
    world.client.set_weight("api", &c.name(), 9, secs(60)).await.unwrap();

    world.restart().await;
    let after =
        eventually("the lease is open again", secs(5), async || lease.id().await.ok()).await;
    assert_ne!(after, before);
    let [first, second, third] = [
        world.backend(&a.name()).await,
        world.backend(&b.name()).await,
        world.backend(&c.name()).await,
    ];
    assert_eq!((first.effective_weight, first.orders.len()), (2.5, 1), "{first:?}");
    assert_eq!(second.state, State::Draining);
    assert!(third.orders.is_empty() && third.state == State::Ready, "{third:?}");
    let affinity = world.client.affinity("api", "k").await.unwrap();
    assert_eq!(affinity.pinned_to, Some(c.name()));

    world.sidecar.process.kill().await;
    let error = eventually("it is told that it is lost", secs(5), async || {
        lease.set_weight("api", &a.name(), 1).await.err()
    });
    assert!(matches!(error.await, Error::Unavailable(_)));
}

/// Nothing of an app that is killed outlives it for a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_app_leaves_nothing_behind() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_app"));
    command.arg("100");
    let mut app = world.app(command);
    app.line(secs(20), |line| (line == "steering").then_some(())).await;
    let cluster = world.client.cluster("api").await.unwrap();
    let first = &cluster.backends[0];
    assert_eq!((cluster.pins, first.effective_weight), (100, 5.0), "{cluster:?}");
    assert!((burst(world.sidecar.web(), 2, 300).await.share(a.address) - 50.0).abs() > 20.0);

    app.kill().await;
    let killed = tokio::time::Instant::now();
    eventually("its orders are gone", secs(1), async || {
        let cluster = world.client.cluster("api").await.unwrap();
        let is_as_before = |backend: &Backend| backend.orders.is_empty();
        (cluster.pins == 0 && cluster.backends.iter().all(is_as_before)).then_some(())
    })
    .await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert!((burst(world.sidecar.web(), 2, 300).await.share(a.address) - 50.0).abs() < 2.0);
}
