//! Keys that lead to a backend by a hash: the value of a field, or an address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use outrigger_tests::backend::Backend;
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::world::{Caller, backends, gated, sticky};

const BY_TENANT: &str = "by = \"header\"\nheader = \"X-Tenant\"";

/// Who answers each of these keys, on two connections and so on two workers.
async fn homes(address: SocketAddr, field: &str, keys: &[String]) -> BTreeMap<String, String> {
    let mut callers = [Caller::new(address).await, Caller::new(address).await];
    let mut homes = BTreeMap::new();
    for key in keys {
        for caller in &mut callers {
            let visit = caller.get(&[(field, key)]).await;
            assert_eq!((visit.status, &visit.set), (200, &None), "{key}");
            let home = homes.entry(key.clone()).or_insert_with(|| visit.backend.clone());
            assert_eq!(*home, visit.backend, "{key}");
        }
    }
    homes
}

fn tenants(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("tenant {i}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_key_has_the_same_backend_on_every_sidecar() {
    let mut all: [Backend; 4] = backends().await;
    let here = Sidecar::start(&sticky(&all, BY_TENANT)).await;
    all.reverse();
    all.swap(0, 2);
    let there = Sidecar::start(&sticky(&all, BY_TENANT)).await;
    let keys = tenants(400);
    let known = homes(here.web(), "x-tenant", &keys).await;
    assert_eq!(homes(there.web(), "X-TENANT", &keys).await, known);
    for backend in &all {
        let share = known.values().filter(|home| **home == backend.name()).count();
        // A quarter, give or take what 400 keys allow.
        assert!((60..=140).contains(&share), "{share} of 400");
    }
    let hits = here.metric("outrigger_affinity_total", &[("result", "hit")]).await;
    assert_eq!(hits, 800.0);

    // Without a key, or with an empty one, the policy decides.
    for fields in [&[][..], &[("x-tenant", "")]] {
        let mut caller = Caller::new(here.web()).await;
        let mut answered = BTreeSet::new();
        for _ in 0..8 {
            answered.insert(caller.get(fields).await.backend);
        }
        assert_eq!(answered.len(), 4, "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_the_keys_of_a_dead_backend_move_and_they_come_back() {
    let mut all: [Backend; 4] = backends().await;
    let check = "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"200ms\"\nfall = 1\nrise = 1\n\
                 [clusters.api.outlier]\nenabled = false\n";
    let sidecar = Sidecar::ready(&(sticky(&all, BY_TENANT) + check)).await;
    let keys = tenants(200);
    let before = homes(sidecar.web(), "x-tenant", &keys).await;

    let (dead, address) = (all[1].name(), all[1].address);
    all[1].kill();
    sidecar.until_state("api", &dead, "unhealthy", secs(10)).await;
    let meanwhile = homes(sidecar.web(), "x-tenant", &keys).await;
    for (key, home) in &before {
        let moved = meanwhile[key] != *home;
        assert_eq!(moved, *home == dead, "{key}");
    }
    let moved = sidecar.metric("outrigger_affinity_total", &[("result", "moved")]).await;
    let of_dead = before.values().filter(|home| **home == dead).count();
    assert_eq!(moved, 2.0 * of_dead as f64);

    all[1] = Backend::at(address).await;
    sidecar.until_state("api", &dead, "ready", secs(10)).await;
    assert_eq!(homes(sidecar.web(), "x-tenant", &keys).await, before);
}

/// Where every request has a key nobody comes by chance who could find out that an ejected backend
/// has recovered: one of those who belong there does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_come_back_to_a_backend_that_was_ejected() {
    let all: [Backend; 3] = backends().await;
    let brief = "[clusters.api.outlier]\nbase_ejection = \"1s\"\n";
    let sidecar = Sidecar::start(&(sticky(&all, BY_TENANT) + brief)).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let ours = [("x-tenant", "ours")];
    let home = caller.get(&ours).await.backend;
    let own = all.iter().find(|backend| backend.name() == home).unwrap();
    own.kill();
    for _ in 0..3 {
        assert_eq!(caller.get(&ours).await.status, 200);
    }
    sidecar.until_state("api", &home, "ejected", secs(5)).await;
    let _back = Backend::at(own.address).await;
    let end = Instant::now() + secs(20);
    loop {
        let visit = caller.get(&ours).await;
        assert_eq!(visit.status, 200);
        if visit.backend == home {
            break;
        }
        assert!(Instant::now() < end, "it stays away");
        tokio::time::sleep(millis(20)).await;
    }
    sidecar.until_state("api", &home, "ready", secs(5)).await;
}

/// A hash cannot tell the work of a client that was there before from that of a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hashed_keys_leave_a_backend_that_drains() {
    let gate = Arc::new(Semaphore::new(0));
    let (a, b) = (gated(&gate).await, gated(&gate).await);
    let bind = Bind::start(&(srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b"))).await;
    let affinity = format!("[clusters.api.affinity]\n{BY_TENANT}\n");
    let sidecar = Sidecar::ready(&(bind.config("") + &affinity)).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let home = caller.get(&[("x-tenant", "ours")]).await.backend;
    let (own, other, name) = if a.name() == home { (&a, &b, "a") } else { (&b, &a, "b") };

    // What is under way keeps the drain from its end.
    let mut busy = Caller::new(sidecar.web()).await;
    let busy = tokio::spawn(async move { busy.get(&[("x-tenant", "ours"), ("x-slow", "")]).await });
    eventually("it is busy", secs(5), || async { (own.hits() == 2).then_some(()) }).await;
    let port = own.address.port();
    bind.update(&format!("update delete {SERVICE}. SRV 10 1 {port} {name}.{ZONE}.")).await;
    sidecar.until_state("api", &home, "draining", secs(10)).await;
    for _ in 0..10 {
        assert_eq!(caller.get(&[("x-tenant", "ours")]).await.backend, other.name());
    }
    gate.add_permits(1);
    assert_eq!(busy.await.unwrap().backend, home);
}

/// One key that everybody has, and requests that all wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_a_bounded_load_a_hot_key_is_shared() {
    for (bound, most) in [("", 20), ("bounded_load = \"125%\"", 7)] {
        let gate = Arc::new(Semaphore::new(0));
        let all = [gated(&gate), gated(&gate), gated(&gate), gated(&gate)];
        let all = futures_util::future::join_all(all).await;
        let sidecar = Sidecar::start(&sticky(&all, &format!("{BY_TENANT}\n{bound}"))).await;
        let hits = || all.iter().map(Backend::hits).sum::<usize>();
        let mut waiting = Vec::new();
        for sent in 1..=20 {
            let mut caller = Caller::new(sidecar.web()).await;
            waiting.push(tokio::spawn(async move {
                caller.get(&[("x-tenant", "hot"), ("x-slow", "")]).await
            }));
            eventually("it has arrived", secs(5), || async { (hits() == sent).then_some(()) })
                .await;
        }
        // A quarter of 20, and a quarter more of that, rounded up.
        assert_eq!(all.iter().map(Backend::hits).max(), Some(most), "{bound}");
        gate.add_permits(20);
        for answer in waiting {
            assert_eq!(answer.await.unwrap().status, 200);
        }
        // At rest it is at home.
        let home = homes(sidecar.web(), "x-tenant", &["hot".into()]).await["hot"].clone();
        let hottest = all.iter().max_by_key(|backend| backend.hits()).unwrap();
        assert_eq!(home, hottest.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_are_told_apart_by_the_address_that_was_forwarded() {
    let all: [Backend; 4] = backends().await;
    let sidecar = Sidecar::start(&sticky(&all, "by = \"source_ip\"")).await;
    let clients: Vec<_> = (0..200).map(|i| format!("203.0.113.{i}")).collect();
    let known = homes(sidecar.web(), "x-forwarded-for", &clients).await;
    for backend in &all {
        let share = known.values().filter(|home| **home == backend.name()).count();
        assert!((20..=80).contains(&share), "{share} of 200");
    }
    // Proxies before the last one may say what they like, and those of this machine do not count.
    for (client, home) in known.iter().take(20) {
        for said in [format!("198.51.100.7, {client}"), format!("{client}, 127.0.0.1")] {
            let visit = Caller::new(sidecar.web()).await.get(&[("x-forwarded-for", &said)]).await;
            assert_eq!(visit.backend, *home, "{said}");
        }
    }
    // Without a word about it everyone is 127.0.0.1.
    let mut answered = BTreeSet::new();
    for _ in 0..20 {
        answered.insert(Caller::new(sidecar.web()).await.get(&[]).await.backend);
    }
    assert_eq!(answered.len(), 1);
}
