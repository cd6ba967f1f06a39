//! A cluster as an app watches it.

use std::sync::Arc;

use futures_util::TryStreamExt;
use outrigger_sdk::{Error, State, View};
use outrigger_tests::secs;
use tokio::time::timeout;

use crate::world::{TTL, World, backends};

/// The first view from now on for which this holds.
async fn until(
    views: &mut (impl TryStreamExt<Ok = Arc<View>, Error = Error> + Unpin),
    what: &str,
    holds: impl Fn(&View) -> bool,
) -> Arc<View> {
    let found = async {
        loop {
            let view = views.try_next().await.unwrap().expect("a watch does not end");
            if holds(&view) {
                return view;
            }
        }
    };
    timeout(secs(10), found).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_shows_each_change_and_outlives_the_sidecar() {
    let [a, b] = backends().await;
    let mut world = World::start(&[a.address, b.address], "").await;
    let mut views = world.client.watch("api");
    let first = until(&mut views, "all are there", |_| true).await;
    let mut names = [a.name(), b.name()];
    names.sort();
    let seen: Vec<_> = first.backends.iter().map(|backend| backend.name.clone()).collect();
    assert_eq!(seen, names);
    assert_eq!((first.cluster.as_str(), first.panic), ("api", false));

    world.client.set_weight("api", &a.name(), 3, TTL).await.unwrap();
    let weighed = until(&mut views, "weight 3", |view| {
        view.backend(&a.name()).is_some_and(|backend| backend.effective_weight == 3.0)
    });
    let weighed = weighed.await;
    let share = |name: &str| weighed.backend(name).unwrap().share;
    assert_eq!(share(&a.name()), 3 * share(&b.name()));
    assert!(weighed.version > first.version && weighed.instance == first.instance);

    world.client.drain("api", &b.name(), None, TTL).await.unwrap();
    until(&mut views, "drained", |view| {
        let backend = view.backend(&b.name()).unwrap();
        backend.state == State::Draining && backend.share == 0
    })
    .await;

    world.restart().await;
    let again = until(&mut views, "as configured", |view| {
        view.instance != first.instance
            && view.backends.len() == 2
            && view.backends.iter().all(|backend| backend.effective_weight == 1.0)
    });
    assert!(again.await.backends.iter().all(|backend| backend.state == State::Ready));
}
