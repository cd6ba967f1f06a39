//! Faults of Consul that a real one gives rarely: the last set is kept, and nobody is asked too often.

use std::net::SocketAddr;

use bytes::Bytes;
use outrigger_tests::backend::Backend;
use outrigger_tests::consul::config;
use outrigger_tests::fake_consul::{FakeConsul, Say, instance};
use outrigger_tests::load::Load;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

struct World {
    consul: FakeConsul,
    backends: Vec<Backend>,
    sidecar: Sidecar,
}

impl World {
    /// Four backends that Consul knows, and more tables of the configuration.
    async fn start(extra: &str) -> Self {
        let mut backends = Vec::new();
        for _ in 0..4 {
            backends.push(Backend::start().await);
        }
        let consul = FakeConsul::start(truth(&addresses(&backends))).await;
        let sidecar = Sidecar::ready(&(config(consul.address(), "") + extra)).await;
        Self { consul, backends, sidecar }
    }

    fn all(&self) -> Say {
        truth(&addresses(&self.backends))
    }

    async fn until_stale(&self, stale: bool) {
        self.sidecar.until_stale(stale, secs(15)).await;
    }

    async fn ready(&self) -> usize {
        let states = self.sidecar.states("api").await;
        states.iter().filter(|(_, state)| state == "ready").count()
    }
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

fn truth(backends: &[SocketAddr]) -> Say {
    Say::Truth(backends.iter().map(|backend| instance(*backend, "passing")).collect())
}

fn at_once(status: u16, body: impl Into<Bytes>) -> Say {
    let headers = vec![("x-consul-index", "12".into())];
    Say::AtOnce { status, headers, body: body.into() }
}

/// Rows C2, C3 and C4: whatever it says, it costs no request and no backend.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_that_are_none_keep_the_last_set() {
    let world = World::start("").await;
    let load = Load::start(world.sidecar.web(), 8, 300);
    let list = json!([instance(world.backends[0].address, "passing")]).to_string();
    let faults: [(&str, Say); 9] = [
        ("no leader", at_once(500, "No cluster leader")),
        ("unavailable", at_once(503, "")),
        ("denied", at_once(403, "ACL not found")),
        ("too many", at_once(429, "Your IP is issuing too many requests")),
        ("HTML", at_once(200, "<html><body>Sign in</body></html>")),
        ("half a list", at_once(200, list[..list.len() - 9].to_owned())),
        ("no list", at_once(200, "{\"Nodes\": []}")),
        ("nothing", at_once(200, "")),
        ("50 MiB", at_once(200, Bytes::from(vec![b' '; 50 << 20]))),
    ];
    for (fault, say) in faults {
        world.consul.say(say);
        world.until_stale(true).await;
        assert_eq!(world.ready().await, 4, "{fault}");
        let (since, before) = (Instant::now(), updates(&world.sidecar, "failure").await);
        sleep(secs(3)).await;
        let asked = world.consul.asked_since(since).len();
        assert!((1..=6).contains(&asked), "{fault}: asked {asked} times in 3 s");
        assert!(updates(&world.sidecar, "failure").await > before, "{fault}");
        world.consul.say(world.all());
        world.until_stale(false).await;
    }
    assert!(world.sidecar.process.log().contains("does consul.token_file have the right token?"));
    load.stop().await.assert_no_failures();
    assert!(world.sidecar.process.memory() < 100 << 20);
}

async fn updates(sidecar: &Sidecar, result: &str) -> f64 {
    let labels = [("source", "consul"), ("result", result)];
    sidecar.metric("outrigger_discovery_updates_total", &labels).await
}

/// Row C3: who asks for a pause gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn retry_after_is_honoured() {
    let world = World::start("").await;
    let headers = vec![("retry-after", "4".into())];
    world.consul.say(Say::AtOnce { status: 429, headers, body: Bytes::new() });
    world.until_stale(true).await;
    let since = Instant::now();
    sleep(secs(3)).await;
    assert_eq!(world.consul.asked_since(since).len(), 0);
}

/// Row C4: an item that cannot be used costs itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bad_items_are_left_out_and_the_good_are_used() {
    let world = World::start("").await;
    let good: Vec<Value> =
        world.backends.iter().map(|backend| instance(backend.address, "passing")).collect();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut item = instance(world.backends[0].address, "passing");
        item["Service"]["ID"] = "other".into();
        change(&mut item);
        item
    };
    let bad = [
        json!(null),
        with(&|item| item["Service"] = Value::Null),
        with(&|item| item["Service"]["Port"] = 0.into()),
        with(&|item| item["Service"]["Port"] = "80".into()),
        with(&|item| item["Service"]["Address"] = "web.example.com".into()),
        good[0].clone(),
    ];
    let mut list = good[1..].to_vec();
    list.extend(bad);
    // Without an address of its own, the instance has the node's.
    let nodes = with(&|item| item["Service"]["Address"] = "".into());
    list.push(nodes);
    let load = Load::start(world.sidecar.web(), 4, 300);
    let since = Instant::now();
    world.consul.say(Say::Truth(list));
    eventually("it was asked again", secs(5), || async {
        (!world.consul.asked_since(since).is_empty()).then_some(())
    })
    .await;
    eventually("all four are there", secs(2), || async {
        (world.ready().await == 4).then_some(())
    })
    .await;
    assert!(world.sidecar.process.log().contains("instances in Consul that cannot be used"));
    load.stop().await.assert_no_failures();
}

/// Rows C1 and C5: indexes that lie, and answers that do not wait, cost a question a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn wrong_indexes_make_no_busy_loop() {
    let world = World::start("").await;
    let load = Load::start(world.sidecar.web(), 4, 300);
    let list: Vec<Value> =
        world.backends.iter().map(|backend| instance(backend.address, "passing")).collect();
    for index in [Some("0"), None, Some("twelve"), Some("7")] {
        let headers = index.map(|index| ("x-consul-index", index.to_owned())).into_iter().collect();
        let body = Bytes::from(json!(list).to_string());
        world.consul.say(Say::AtOnce { status: 200, headers, body });
        // What was saved up is used at first.
        sleep(secs(2)).await;
        let since = Instant::now();
        sleep(secs(4)).await;
        let asked = world.consul.asked_since(since).len();
        assert!((3..=5).contains(&asked), "{index:?}: asked {asked} times in 4 s");
        assert_eq!(world.ready().await, 4);
    }
    // The index goes back: changes are seen all the same.
    world.consul.say_at(9, world.all());
    world.until_stale(false).await;
    sleep(secs(3)).await;
    world.consul.say_at(5, truth(&addresses(&world.backends[..3])));
    eventually("one is gone", secs(2), || async { (world.ready().await == 3).then_some(()) }).await;
    load.stop().await.assert_no_failures();
}

/// Row C2: a server without a leader may have forgotten somebody.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn fewer_instances_without_a_leader_are_not_believed() {
    let world = World::start("").await;
    let load = Load::start(world.sidecar.web(), 4, 300);
    let say = |backends: &[Backend], leader: &str| {
        let list: Vec<Value> =
            backends.iter().map(|backend| instance(backend.address, "passing")).collect();
        let headers =
            vec![("x-consul-index", "50".into()), ("x-consul-knownleader", leader.to_owned())];
        Say::AtOnce { status: 200, headers, body: json!(list).to_string().into() }
    };
    world.consul.say(say(&world.backends[..3], "false"));
    world.until_stale(true).await;
    assert_eq!(world.ready().await, 4);
    world.consul.say(say(&world.backends[..3], "true"));
    eventually("one is gone", secs(3), || async { (world.ready().await == 3).then_some(()) }).await;
    load.stop().await.assert_no_failures();
}

/// Row C6: Consul takes the question and says nothing, for longer than it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_question_that_hangs_is_given_up() {
    let world = World::start("").await;
    drop(world);
    let backend = Backend::start().await;
    let consul = FakeConsul::start(truth(&[backend.address])).await;
    let waits =
        config(consul.address(), "").replace("[listeners.web]", "wait = \"1s\"\n[listeners.web]");
    let sidecar = Sidecar::ready(&waits).await;
    let load = Load::start(sidecar.web(), 4, 300);
    consul.say(Say::Silence);
    let since = Instant::now();
    sidecar.until_stale(true, secs(9)).await;
    // The wait, a sixteenth of it, and five seconds.
    assert!(since.elapsed() >= secs(4), "{:?}", since.elapsed());
    consul.say(truth(&[backend.address]));
    sidecar.until_stale(false, secs(12)).await;
    load.stop().await.assert_no_failures();
}

/// Row C7: nobody passes any more, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_at_once_is_not_believed_at_once() {
    for all_critical in [false, true] {
        let world =
            World::start("[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"200ms\"\n").await;
        let config = world.sidecar.cluster("api").await;
        assert_eq!(config["backends"].as_array().unwrap().len(), 4);
        let load = Load::start(world.sidecar.web(), 4, 300);
        let nobody = match all_critical {
            true => world.backends.iter().map(|b| instance(b.address, "critical")).collect(),
            false => Vec::new(),
        };
        world.consul.say(Say::Truth(nobody));
        eventually("they are suspects", secs(2), || async {
            let cluster = world.sidecar.cluster("api").await;
            let backends = cluster["backends"].as_array().unwrap();
            backends.iter().all(|b| b["suspect_until"].is_string()).then_some(())
        })
        .await;
        sleep(secs(2)).await;
        assert_eq!(world.ready().await, 4);
        assert_eq!(world.sidecar.metric("outrigger_removals_held_total", &[]).await, 4.0);
        load.stop().await.assert_no_failures();
    }
}

/// Row C8: everything flaps, and the sidecar has other things to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_instances_that_flap_cost_little() {
    let backend = Backend::start().await;
    let port = backend.address.port();
    let list = |status: &str| -> Vec<Value> {
        let others = (1..1000u32)
            .map(|i| SocketAddr::new([127, 1, (i / 250) as u8, (i % 250) as u8 + 1].into(), port));
        let mut list = vec![instance(backend.address, "passing")];
        list.extend(others.map(|address| instance(address, status)));
        list
    };
    let consul = FakeConsul::start(Say::Truth(list("critical"))).await;
    let sidecar = Sidecar::ready(&config(consul.address(), "removal_hold = \"disabled\"")).await;
    let before = (sidecar.cluster("api").await["version"].as_u64().unwrap(), sidecar.process.cpu());
    let since = Instant::now();
    for round in 0..6 {
        consul.say(Say::Truth(list(if round % 2 == 0 { "warning" } else { "critical" })));
        sleep(secs(1)).await;
    }
    let spent = (sidecar.process.cpu() - before.1).div_duration_f64(since.elapsed());
    let versions = sidecar.cluster("api").await["version"].as_u64().unwrap() - before.0;
    println!("{versions} snapshots, {:.1} % of a core", spent * 100.0);
    assert!(versions <= 60, "{versions} snapshots in 6 s");
    // The bound is 5 %, for a build with all optimisations.
    assert!(spent < if cfg!(debug_assertions) { 0.25 } else { 0.05 }, "{spent}");
}

/// Row C10: a token that is replaced is used within five seconds, also by a question that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_new_token_is_used_soon() {
    let backend = Backend::start().await;
    let consul = FakeConsul::start(truth(&[backend.address])).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let token = format!("token_file = \"{}\"\n[listeners.web]", file.display());
    let sidecar =
        Sidecar::ready(&config(consul.address(), "").replace("[listeners.web]", &token)).await;
    let asked = consul.asked_since(Instant::now() - secs(10));
    assert!(asked.iter().all(|question| question.ends_with(" first")), "{asked:?}");
    let since = Instant::now();
    let draft = dir.path().join("draft");
    std::fs::write(&draft, "second\n").unwrap();
    std::fs::rename(&draft, &file).unwrap();
    eventually("it is used", secs(5), || async {
        let asked = consul.asked_since(since);
        asked.iter().any(|question| question.ends_with(" second")).then_some(())
    })
    .await;
    assert!(!sidecar.process.log().contains("second"), "a token in the log");
    sleep(millis(1)).await;
}
