//! What somebody changes in a real Consul acts on traffic within a second, and costs no request.

use outrigger_tests::backend::Backend;
use outrigger_tests::consul::{ACTS_WITHIN, Consul};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::json;
use tokio::time::Instant;

async fn three() -> [Backend; 3] {
    [Backend::start().await, Backend::start().await, Backend::start().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn registrations_weights_maintenance_and_checks_act_within_a_second() {
    let (consul, [a, b, c]) = (Consul::start().await, three().await);
    for backend in [&a, &b] {
        let check = json!({ "Check": { "TTL": "600s", "Status": "passing" } });
        consul.register(backend.address, check).await;
    }
    let sidecar = Sidecar::ready(&consul.config("")).await;
    sidecar.until_members("api", vec![a.name(), b.name()], secs(2)).await;
    let load = Load::start(sidecar.web(), 8, 300);
    let soon = async |what: &str, backend: &Backend, state: &str| {
        let changed = Instant::now();
        sidecar.until_state("api", &backend.name(), state, ACTS_WITHIN).await;
        println!("{what}: {:?}", changed.elapsed());
        // Changes that follow each other without a pause are seen once a second.
        tokio::time::sleep(secs(1)).await;
    };

    consul.register(c.address, json!({ "Weights": { "Passing": 8, "Warning": 1 } })).await;
    soon("registered", &c, "ready").await;
    assert!((burst(sidecar.web(), 2, 250).await.share(c.address) - 80.0).abs() < 3.0);

    consul.register(c.address, json!({ "Weights": { "Passing": 2, "Warning": 1 } })).await;
    eventually("its weight is another", ACTS_WITHIN, || async {
        (sidecar.backend(&c.name()).await["weight"]["effective"] == 2.0).then_some(())
    })
    .await;
    assert!((burst(sidecar.web(), 2, 250).await.share(c.address) - 50.0).abs() < 3.0);

    consul.check(a.address, "fail").await;
    soon("critical", &a, "unhealthy").await;
    assert_eq!(burst(sidecar.web(), 2, 50).await.of(a.address), 0);
    consul.check(a.address, "pass").await;
    soon("passing", &a, "ready").await;

    consul.maintenance(b.address, true).await;
    soon("in maintenance", &b, "draining").await;
    assert_eq!(burst(sidecar.web(), 2, 50).await.of(b.address), 0);
    let reason = sidecar.backend(&b.name()).await["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("maintenance") || reason == "drained", "{reason}");
    consul.maintenance(b.address, false).await;
    soon("out of maintenance", &b, "ready").await;

    consul.deregister(c.address).await;
    eventually("it gets nothing", ACTS_WITHIN, || async {
        let states = sidecar.states("api").await;
        (!states.iter().any(|(name, state)| *name == c.name() && state == "ready")).then_some(())
    })
    .await;
    assert_eq!(burst(sidecar.web(), 2, 50).await.of(c.address), 0);
    load.stop().await.assert_no_failures();
}

/// The whole node, and an instance with warnings.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn warnings_have_their_own_weight_and_a_node_drains_whole() {
    let (consul, [a, b, _]) = (Consul::start().await, three().await);
    for backend in [&a, &b] {
        let more = json!({
            "Check": { "TTL": "600s", "Status": "passing" },
            "Weights": { "Passing": 4, "Warning": 1 },
        });
        consul.register(backend.address, more).await;
    }
    let strict = "[clusters.strict.discovery]\nsource = \"consul\"\nservice = \"api\"\n\
                  passing_only = true\n";
    let sidecar = Sidecar::ready(&(consul.config("") + strict)).await;
    sidecar.until_members("api", vec![a.name(), b.name()], secs(2)).await;
    consul.check(a.address, "warn").await;
    eventually("its weight is that of warnings", ACTS_WITHIN, || async {
        (sidecar.backend(&a.name()).await["weight"]["effective"] == 1.0).then_some(())
    })
    .await;
    assert!((burst(sidecar.web(), 2, 250).await.share(a.address) - 20.0).abs() < 3.0);
    sidecar.until_state("strict", &a.name(), "unhealthy", ACTS_WITHIN).await;

    consul.node_maintenance(true).await;
    for backend in [&a, &b] {
        sidecar.until_state("api", &backend.name(), "draining", ACTS_WITHIN).await;
    }
    consul.node_maintenance(false).await;
    for backend in [&a, &b] {
        sidecar.until_state("api", &backend.name(), "ready", ACTS_WITHIN).await;
    }
    let (code, said) = sidecar.command(&["drain", "api", "no-such-node"]).await;
    assert!(code == 1 && said.contains("no backend is called"), "{said}");
}

/// Its index begins anew, and what it has forgotten comes back after a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_restart_of_the_agent_costs_nothing() {
    let [a, b, c] = three().await;
    let services: Vec<_> = [&a, &b, &c]
        .iter()
        .map(|backend| outrigger_tests::consul::service(backend.address, json!({})))
        .map(|service| {
            let lower = service.as_object().unwrap().iter();
            lower.map(|(key, value)| (key.to_lowercase(), value.clone())).collect()
        })
        .map(serde_json::Value::Object)
        .collect();
    let mut consul = Consul::start_with(json!({ "services": services })).await;
    // Its index goes far ahead.
    for i in 0..200 {
        consul.put("/v1/kv/other", &json!(i)).await;
    }
    let sidecar = Sidecar::ready(&consul.config("")).await;
    let all = vec![a.name(), b.name(), c.name()];
    sidecar.until_members("api", all.clone(), secs(2)).await;
    let load = Load::start(sidecar.web(), 8, 300);
    consul.process.kill().await;
    sidecar.until_stale(true, secs(5)).await;
    consul.restart().await;
    consul.until_leader().await;
    // The agent tells of its instances one by one; until then they are held.
    eventually("all is as before", ACTS_WITHIN * 2, || async {
        let cluster = sidecar.cluster("api").await;
        let backends = cluster["backends"].as_array().unwrap();
        let well = |b: &serde_json::Value| b["state"] == "ready" && b["suspect_until"].is_null();
        let fresh = cluster["stale_since"].is_null();
        (fresh && backends.len() == 3 && backends.iter().all(well)).then_some(())
    })
    .await;
    let tally = load.stop().await;
    tally.assert_no_failures();
    // And from then on changes are seen again.
    consul.deregister(a.address).await;
    eventually("it is gone", ACTS_WITHIN, || async {
        let states = sidecar.states("api").await;
        (!states.iter().any(|(name, state)| *name == a.name() && state == "ready")).then_some(())
    })
    .await;
}
