//! Every call, as it should not be: the error says what is wrong, and nothing has changed.

use futures_util::TryStreamExt;
use outrigger_sdk::{Balancer, Client, Error, Outcome};
use outrigger_tests::secs;

use crate::world::{TTL, World, backends};

/// What there is not.
fn missing(error: &Error) -> (&str, &str) {
    let Error::NotFound { kind, name, message } = error else { panic!("{error:?}") };
    assert!(message.contains(name), "{message}");
    (kind, name)
}

/// The fields that are not accepted.
fn fields(error: &Error) -> Vec<&str> {
    let Error::Invalid { violations, .. } = error else { panic!("{error:?}") };
    assert!(violations.iter().all(|violation| !violation.description.is_empty()), "{error:?}");
    violations.iter().map(|violation| violation.field.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cluster_that_there_is_not_is_named() {
    let [a] = backends().await;
    let world = World::start(&[a.address], "").await;
    let (client, a) = (&world.client, a.name());
    let lease = client.lease("app").await.unwrap();
    let errors = [
        client.cluster("apj").await.unwrap_err(),
        client.watch("apj").try_next().await.unwrap_err(),
        Balancer::new(client.clone(), "apj").await.unwrap_err(),
        client.set_weight("apj", &a, 1, TTL).await.unwrap_err(),
        client.scale_weight("apj", &a, 1.0, TTL).await.unwrap_err(),
        client.clear_weight("apj", &a).await.unwrap_err(),
        client.set_affinity("apj", "k", Some(&a), TTL).await.unwrap_err(),
        client.affinity("apj", "k").await.unwrap_err(),
        client.clear_affinity("apj", "k").await.unwrap_err(),
        client.drain("apj", &a, None, TTL).await.unwrap_err(),
        client.resume("apj", &a).await.unwrap_err(),
        client.wait_drained("apj", &a).await.unwrap_err(),
        client.report("apj", &a, Outcome::Success, None, 1).await.unwrap_err(),
        client.events(Some("apj"), 0, secs(0)).await.unwrap_err(),
        client.explain("apj", None).await.unwrap_err(),
        lease.set_weight("apj", &a, 1).await.unwrap_err(),
        lease.set_affinity("apj", "k", None).await.unwrap_err(),
        lease.drain("apj", &a, None).await.unwrap_err(),
    ];
    for error in &errors {
        assert_eq!(missing(error), ("cluster", "apj"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_there_is_not_is_named() {
    let [a] = backends().await;
    let world = World::start(&[a.address], "").await;
    let (client, name) = (&world.client, "127.0.0.1:1");
    let errors = [
        client.set_weight("api", name, 1, TTL).await.unwrap_err(),
        client.clear_weight("api", name).await.unwrap_err(),
        client.set_affinity("api", "k", Some(name), TTL).await.unwrap_err(),
        client.drain("api", name, None, TTL).await.unwrap_err(),
        client.resume("api", name).await.unwrap_err(),
        client.wait_drained("api", name).await.unwrap_err(),
        client.report("api", name, Outcome::Success, None, 1).await.unwrap_err(),
    ];
    for error in &errors {
        assert_eq!(missing(error), ("backend", name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn values_that_are_not_accepted_are_named_and_change_nothing() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let (client, long) = (&world.client, "k".repeat(257));
    let as_owner =
        |owner: &str| Client::builder().address(world.address()).owner(owner).connect().unwrap();
    let name = a.name();
    let cases = [
        ("weight", client.set_weight("api", &name, 65_536, TTL).await.unwrap_err()),
        ("factor", client.scale_weight("api", &name, 1000.1, TTL).await.unwrap_err()),
        ("factor", client.scale_weight("api", &name, f64::NAN, TTL).await.unwrap_err()),
        ("ttl", client.set_weight("api", &name, 1, secs(0)).await.unwrap_err()),
        ("ttl", client.set_weight("api", &name, 1, secs(86_401)).await.unwrap_err()),
        ("ttl", client.drain("api", &name, None, secs(u64::MAX)).await.unwrap_err()),
        ("timeout", client.drain("api", &name, Some(secs(86_401)), TTL).await.unwrap_err()),
        ("key", client.set_affinity("api", "", Some(&name), TTL).await.unwrap_err()),
        ("key", client.set_affinity("api", &long, Some(&name), TTL).await.unwrap_err()),
        ("key", client.affinity("api", &long).await.unwrap_err()),
        ("count", client.report("api", &name, Outcome::Success, None, 1001).await.unwrap_err()),
        ("outcome", client.report("api", &name, Outcome::Unspecified, None, 1).await.unwrap_err()),
        ("owner", as_owner("admin").set_weight("api", &name, 1, TTL).await.unwrap_err()),
        ("owner", as_owner("a b").drain("api", &name, None, TTL).await.unwrap_err()),
        ("owner", client.lease("fleet").await.unwrap_err()),
        ("owner", client.lease("").await.unwrap_err()),
    ];
    for (field, error) in &cases {
        assert_eq!(fields(error), [*field], "{error:?}");
    }
    let cluster = client.cluster("api").await.unwrap();
    assert_eq!(cluster.pins, 0);
    assert!(cluster.backends.iter().all(|backend| backend.orders.is_empty()), "{cluster:?}");
}
