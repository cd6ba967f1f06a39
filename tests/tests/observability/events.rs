//! `GET /api/v1/events` and `outrigger events`.

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::process::Process;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{binary, eventually, millis, secs};
use serde_json::Value;
use tokio::process::Command;
use tokio::time::Instant;

async fn events(sidecar: &Sidecar, query: &str) -> Value {
    let (status, body) = sidecar.get(&format!("/api/v1/events{query}")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn find<'v>(page: &'v Value, kind: &str, backend: &str) -> Option<&'v Value> {
    let list = page["events"].as_array().unwrap();
    list.iter().find(|event| event["kind"] == kind && event["backend"] == backend)
}

/// The names say why: with the answer that a change came from, and its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_is_told_with_its_cause_and_source() {
    let backends = [Backend::start().await, Backend::start().await, Backend::start().await];
    let records: String = ["a", "b", "c"]
        .iter()
        .zip(&backends)
        .map(|(name, backend)| srv(0, 1, backend.address, name))
        .collect();
    let bind = Bind::start(&records).await;
    let sidecar = Sidecar::ready(&bind.config("")).await;
    let name = backends[2].name();
    let page = events(&sidecar, "?cluster=api").await;
    let joined = find(&page, "joined", &name).expect("it has joined");
    assert_eq!((&joined["source"], &joined["cluster"]), (&"dns_srv".into(), &"api".into()));

    let after = page["latest"].as_u64().unwrap();
    let port = backends[2].address.port();
    bind.update(&format!("update delete {SERVICE}. SRV 0 1 {port} c.{ZONE}.")).await;
    let page = eventually("it is removed", secs(5), || async {
        let page = events(&sidecar, &format!("?after={after}&wait=5s")).await;
        find(&page, "removed", &name).is_some().then_some(page)
    })
    .await;
    let cause = find(&page, "removed", &name).unwrap()["cause"].as_str().unwrap().to_owned();
    let time = cause.strip_prefix("absent from the SRV answer of ").expect(&cause);
    assert!(time.len() == 8 && time.split(':').count() == 3, "{cause}");
    let ids: Vec<u64> =
        page["events"].as_array().unwrap().iter().map(|e| e["id"].as_u64().unwrap()).collect();
    assert!(ids.iter().all(|id| *id > after) && ids.is_sorted(), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_waits_hears_at_once_and_who_errs_is_told() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let latest = events(&sidecar, "").await["latest"].as_u64().unwrap();
    let started = Instant::now();
    let nothing = events(&sidecar, &format!("?after={latest}&wait=200ms")).await;
    assert!(nothing["events"].as_array().unwrap().is_empty() && started.elapsed() >= millis(200));
    let query = format!("?after={latest}&wait=30s");
    let (told, ()) = tokio::join!(events(&sidecar, &query), async {
        sidecar.drain(&backend.name(), "20s").await;
    });
    assert!(find(&told, "draining", &backend.name()).is_some(), "{told}");
    assert!(started.elapsed() < secs(10), "{:?}", started.elapsed());
    // An id of a sidecar that was here before.
    let all = events(&sidecar, "?after=1000000&wait=30s").await;
    assert!(find(&all, "joined", &backend.name()).is_some(), "{all}");
    for (query, status) in
        [("?after=x", 400), ("?wait=5", 400), ("?of=x", 400), ("?cluster=b", 404)]
    {
        assert_eq!(sidecar.get(&format!("/api/v1/events{query}")).await.0, status, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_shows_them_and_follows() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let (code, said) = sidecar.command(&["events", "api"]).await;
    let joined = format!("{}  joined: listed in the configuration of ", backend.name());
    assert!(code == 0 && said.contains(&joined), "{said}");
    let (code, said) = sidecar.command(&["events", "--json"]).await;
    let page: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && find(&page, "joined", &backend.name()).is_some(), "{said}");

    let mut command = Command::new(binary());
    command.args(["events", "-f", "--admin"]).arg(sidecar.admin.to_string());
    let follower = Process::start(command);
    follower.line(secs(10), |line| line.contains("joined").then_some(())).await;
    let (code, _) = sidecar.command(&["weight", "api", &backend.name(), "7", "--ttl", "1s"]).await;
    assert_eq!(code, 0);
    for cause in ["weight: 7 by order for 1s", "weight: by order: its time is over"] {
        follower.line(secs(10), |line| line.contains(cause).then_some(())).await;
    }
}
