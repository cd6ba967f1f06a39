//! Orders for the whole fleet, in Consul's key-value store.

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::consul::{ACTS_WITHIN, Consul};
use outrigger_tests::load::burst;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::{Value, json};

/// Two backends that are known without Consul, and two sidecars that listen to it for orders.
struct Fleet {
    consul: Consul,
    backends: [Backend; 2],
    sidecars: [Sidecar; 2],
}

impl Fleet {
    async fn start() -> Self {
        let consul = Consul::start().await;
        let backends = [Backend::start().await, Backend::start().await];
        let addresses = backends.each_ref().map(|backend| backend.address);
        let config =
            format!("[consul]\naddress = \"http://{}\"\n{}", consul.http, config(&addresses, ""));
        let sidecars = [Sidecar::ready(&config).await, Sidecar::ready(&config).await];
        Self { consul, backends, sidecars }
    }

    fn key(&self, backend: usize) -> String {
        format!("/v1/kv/outrigger/api/{}", self.backends[backend].name())
    }

    async fn until_weight(&self, backend: usize, weight: f64) {
        for sidecar in &self.sidecars {
            eventually(&format!("its weight is {weight}"), ACTS_WITHIN, || async {
                let shown = sidecar.backend(&self.backends[backend].name()).await;
                (shown["weight"]["effective"] == weight).then_some(())
            })
            .await;
        }
    }

    async fn until_state(&self, backend: usize, state: &str) {
        for sidecar in &self.sidecars {
            sidecar.until_state("api", &self.backends[backend].name(), state, ACTS_WITHIN).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_are_obeyed_by_everyone_and_revert_when_they_go() {
    let fleet = Fleet::start().await;
    fleet.consul.put(&fleet.key(0), &json!({ "weight": 9 })).await;
    fleet.until_weight(0, 9.0).await;
    let share = burst(fleet.sidecars[0].web(), 2, 200).await.share(fleet.backends[0].address);
    assert!((share - 90.0).abs() < 3.0, "{share}");
    let shown = fleet.sidecars[1].backend(&fleet.backends[0].name()).await;
    assert_eq!(
        (&shown["orders"][0]["owner"], &shown["orders"][0]["weight"]),
        (&"fleet".into(), &9.into())
    );

    // An order to one sidecar comes first there.
    fleet.sidecars[0].order(&fleet.backends[0].name(), "weight", "{\"weight\":2}").await;
    let shown = fleet.sidecars[0].backend(&fleet.backends[0].name()).await;
    assert_eq!(shown["weight"]["effective"], 2.0);
    fleet.sidecars[0].order(&fleet.backends[0].name(), "weight", "{\"weight\":null}").await;
    fleet.until_weight(0, 9.0).await;

    let both = json!({ "weight": 3, "drain": true, "timeout": "60s" });
    fleet.consul.put(&fleet.key(0), &both).await;
    fleet.until_state(0, "draining").await;
    fleet.until_weight(0, 3.0).await;
    fleet.consul.delete(&fleet.key(0)).await;
    fleet.until_state(0, "ready").await;
    fleet.until_weight(0, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_dies_with_the_session_that_owns_it() {
    let fleet = Fleet::start().await;
    let session = json!({ "Behavior": "delete", "LockDelay": "0s" });
    let made: Value =
        serde_json::from_str(&fleet.consul.put("/v1/session/create", &session).await).unwrap();
    let id = made["ID"].as_str().unwrap();
    let key = format!("{}?acquire={id}", fleet.key(1));
    fleet.consul.put(&key, &json!({ "drain": true })).await;
    fleet.until_state(1, "draining").await;
    fleet.consul.put(&format!("/v1/session/destroy/{id}"), &Value::Null).await;
    fleet.until_state(1, "ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_no_order_is_ignored_counted_and_said_once() {
    let fleet = Fleet::start().await;
    for (i, wrong) in [json!({ "weight": "5" }), json!({}), json!("x")].iter().enumerate() {
        fleet.consul.put(&fleet.key(0), wrong).await;
        for sidecar in &fleet.sidecars {
            eventually("it is counted", ACTS_WITHIN * 2, || async {
                let ignored = sidecar.metric("outrigger_fleet_orders_ignored_total", &[]).await;
                (ignored == (i + 1) as f64).then_some(())
            })
            .await;
        }
    }
    // Other keys change, and nothing more is said of this one.
    fleet.consul.put("/v1/kv/outrigger/others/b", &json!({})).await;
    fleet.consul.put(&fleet.key(1), &json!({ "weight": 4 })).await;
    fleet.until_weight(1, 4.0).await;
    fleet.until_weight(0, 1.0).await;
    for sidecar in &fleet.sidecars {
        assert_eq!(sidecar.metric("outrigger_fleet_orders_ignored_total", &[]).await, 3.0);
        assert_eq!(sidecar.process.log().matches("no order for the fleet").count(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_write_orders_and_take_them_back() {
    let fleet = Fleet::start().await;
    let name = fleet.backends[0].name();
    let command = async |arguments: &[&str]| {
        let (code, said) = fleet.sidecars[0].command(arguments).await;
        assert_eq!(code, 0, "{said}");
        said
    };
    let said = command(&["weight", "api", &name, "6", "--fleet"]).await;
    assert_eq!(said, format!("{name} of api has weight 6\n"));
    fleet.until_weight(0, 6.0).await;
    command(&["drain", "api", &name, "--timeout", "20s", "--fleet", "--wait"]).await;
    fleet.until_state(0, "draining").await;
    let held = fleet.consul.get(&format!("{}?raw", fleet.key(0))).await;
    assert_eq!(held, json!({ "weight": 6, "drain": true, "timeout": "20s" }));
    command(&["weight", "api", &name, "reset", "--fleet"]).await;
    fleet.until_weight(0, 1.0).await;
    fleet.until_state(0, "draining").await;
    command(&["resume", "api", &name, "--fleet"]).await;
    fleet.until_state(0, "ready").await;
    assert_eq!(fleet.consul.get("/v1/kv/?keys").await, json!(["ready"]));

    let refused = async |arguments: &[&str]| fleet.sidecars[0].command(arguments).await;
    let (code, said) = refused(&["weight", "api", &name, "6", "--fleet", "--ttl", "5s"]).await;
    assert!(code == 2 && said.contains("cannot be used with"), "{said}");
    let (code, said) = refused(&["drain", "api", "nobody", "--fleet"]).await;
    assert!(code == 1 && said.contains("no backend is called \"nobody\""), "{said}");
    fleet.consul.put(&fleet.key(0), &json!("mine")).await;
    let (code, said) = refused(&["drain", "api", &name, "--fleet"]).await;
    assert!(code == 1 && said.contains("is there and holds no order"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_consul_there_is_no_fleet_and_with_a_dead_one_orders_stay() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let (code, said) = sidecar.command(&["drain", "api", &backend.name(), "--fleet"]).await;
    assert!(code == 1 && said.contains("the configuration has no [consul]"), "{said}");

    let mut fleet = Fleet::start().await;
    fleet.consul.put(&fleet.key(0), &json!({ "weight": 9 })).await;
    fleet.until_weight(0, 9.0).await;
    fleet.consul.process.kill().await;
    let (code, said) =
        fleet.sidecars[0].command(&["drain", "api", &fleet.backends[0].name(), "--fleet"]).await;
    assert!(code == 1 && said.contains("Consul at "), "{said}");
    tokio::time::sleep(secs(2)).await;
    fleet.until_weight(0, 9.0).await;
}
