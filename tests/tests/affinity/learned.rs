//! Keys that the sidecar remembers the backend of, for clients without a cookie jar.

use std::collections::BTreeMap;

use outrigger_tests::backend::Backend;
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use crate::world::{Caller, backends, sticky};

const LEARNED: &str = "[clusters.api.affinity]\nby = \"header\"\nlearned = true\n";
const FIELD: &str = "x-outrigger-affinity";

/// Connections to both workers: whoever has fewer takes the next.
async fn callers(sidecar: &Sidecar) -> Vec<Caller> {
    let mut callers = Vec::new();
    for _ in 0..4 {
        callers.push(Caller::new(sidecar.web()).await);
    }
    callers
}

async fn counted(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric("outrigger_affinity_total", &[("result", result)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_workers_agree_and_a_key_stays_when_a_backend_joins() {
    let [a, b, late] = backends().await;
    let bind = Bind::start(&(srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b"))).await;
    let sidecar = Sidecar::ready(&(bind.config("") + LEARNED + "[runtime]\nworkers = 2\n")).await;
    let mut callers = callers(&sidecar).await;
    let mut homes = BTreeMap::new();
    for key in 0..100 {
        let visit = callers[key % 4].get(&[(FIELD, &key.to_string())]).await;
        assert_eq!((visit.status, visit.set), (200, None));
        homes.insert(key, visit.backend);
    }
    assert_eq!((counted(&sidecar, "new").await, counted(&sidecar, "hit").await), (100.0, 0.0));
    assert_at_home(&mut callers, &homes).await;

    bind.update(&format!(
        "update add late.{ZONE}. 1 A 127.0.0.1\nupdate add {SERVICE}. 1 SRV 10 1 {} late.{ZONE}.",
        late.address.port()
    ))
    .await;
    sidecar.until_members("api", vec![a.name(), b.name(), late.name()], secs(10)).await;
    assert_at_home(&mut callers, &homes).await;
    assert_eq!((counted(&sidecar, "hit").await, counted(&sidecar, "moved").await), (800.0, 0.0));
    // The late one gets keys that are new.
    for key in 100..130 {
        callers[key % 4].get(&[(FIELD, &key.to_string())]).await;
    }
    assert!(late.hits() >= 5, "{} of 30", late.hits());
}

async fn assert_at_home(callers: &mut [Caller], homes: &BTreeMap<usize, String>) {
    for (key, home) in homes {
        for caller in &mut *callers {
            assert_eq!(caller.get(&[(FIELD, &key.to_string())]).await.backend, *home, "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_whose_backend_dies_moves_once_and_then_stays() {
    let all: [Backend; 3] = backends().await;
    let affinity = "by = \"source_ip\"\nlearned = true";
    let sidecar = Sidecar::start(&sticky(&all, affinity)).await;
    let mut callers = callers(&sidecar).await;
    let client = [("x-forwarded-for", "203.0.113.9")];
    let home = callers[0].get(&client).await.backend;
    all.iter().find(|backend| backend.name() == home).unwrap().kill();
    let moved = callers[1].get(&client).await;
    assert!(moved.status == 200 && moved.backend != home, "{moved:?}");
    for i in 0..40 {
        assert_eq!(callers[i % 4].get(&client).await.backend, moved.backend);
    }
    let results = [("new", 1.0), ("moved", 1.0), ("hit", 40.0), ("forged", 0.0)];
    for (result, expected) in results {
        assert_eq!(counted(&sidecar, result).await, expected, "{result}");
    }
}

/// The time of a key slides: it ends when nobody has asked for it so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_is_forgotten_when_nobody_asks_for_it() {
    let all: [Backend; 4] = backends().await;
    let affinity = "by = \"header\"\nlearned = true\nttl = \"3s\"";
    let sidecar = Sidecar::start(&sticky(&all, affinity)).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let (asked, idle) = ([(FIELD, "asked")], [(FIELD, "idle")]);
    let home = caller.get(&asked).await.backend;
    caller.get(&idle).await;
    let mut pace = tokio::time::interval(outrigger_tests::millis(50));
    let end = tokio::time::Instant::now() + secs(5);
    while tokio::time::Instant::now() < end {
        pace.tick().await;
        assert_eq!(caller.get(&asked).await.backend, home);
    }
    assert_eq!(counted(&sidecar, "new").await, 2.0);
    caller.get(&idle).await;
    assert_eq!(counted(&sidecar, "new").await, 3.0);
}
