//! The example app, with two real backends.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use http::Response;
use outrigger_sdk::State;
use outrigger_tests::backend::{Backend, full};
use outrigger_tests::process::Process;
use outrigger_tests::{eventually, example, secs};
use tokio::process::Command;

use crate::world::World;

async fn release(name: &'static str) -> Backend {
    Backend::answering(move |_| async move { Response::new(full(name)) }).await
}

fn deploy(world: &World, old: &Backend, new: &Backend, seconds: &str) -> Process {
    let url = format!("http://{}/", world.sidecar.web());
    let mut command = Command::new(example("deploy"));
    command.args(["api", &old.name(), &new.name(), &url, seconds]);
    world.app(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deploy_moves_work_in_steps_while_the_session_stays() {
    let (old, new) = (release("old").await, release("new").await);
    let world = World::start(&[old.address, new.address], "").await;
    // What a watcher sees of it: weights of both, and whether the old one drains.
    let steps = Arc::<Mutex<Vec<(f64, f64, bool)>>>::default();
    let mut views = world.client.watch("api");
    let (noted, names) = (Arc::clone(&steps), [old.name(), new.name()]);
    let watching = tokio::spawn(async move {
        while let Some(Ok(view)) = views.next().await {
            let [old, new] = names.each_ref().map(|name| view.backend(name).unwrap());
            let drains = old.state == State::Draining;
            noted.lock().unwrap().push((old.effective_weight, new.effective_weight, drains));
        }
    });
    let mut app = deploy(&world, &old, &new, "0.2");
    assert_eq!(app.exit(secs(30)).await, 0, "{}", app.log());
    let said = app.log();
    assert_eq!(said.matches("user-42 is answered: old").count(), 3, "{said}");
    assert!(said.contains(&format!("{} has finished, 0 ended by force", old.name())), "{said}");

    eventually("all is as before", secs(1), async || {
        let seen = [world.backend(&old.name()).await, world.backend(&new.name()).await];
        seen.iter().all(|b| b.orders.is_empty() && b.effective_weight == 1.0).then_some(())
    })
    .await;
    watching.abort();
    let steps = steps.lock().unwrap().clone();
    for step in [(90.0, 10.0, false), (50.0, 50.0, false), (0.0, 100.0, false), (0.0, 100.0, true)]
    {
        assert!(steps.contains(&step), "{step:?} is not in {steps:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_deploy_that_is_killed_is_as_if_it_had_not_been() {
    let (old, new) = (release("old").await, release("new").await);
    let world = World::start(&[old.address, new.address], "").await;
    let mut app = deploy(&world, &old, &new, "60");
    app.line(secs(20), |line| line.starts_with("10 %").then_some(())).await;
    assert_eq!(world.backend(&old.name()).await.effective_weight, 90.0);
    app.kill().await;
    eventually("all is as before", secs(1), async || {
        let cluster = world.client.cluster("api").await.unwrap();
        let is_free = cluster.backends.iter().all(|backend| backend.orders.is_empty());
        (cluster.pins == 0 && is_free).then_some(())
    })
    .await;
    assert_eq!(world.backend(&old.name()).await.effective_weight, 1.0);
}
