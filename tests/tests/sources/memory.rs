//! What is remembered on disk: it serves a start at which every source is dead.

use std::path::{Path, PathBuf};

use outrigger_tests::backend::{Backend, unused_port};
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, secs};
use rustix::process::Signal;
use tokio::time::Instant;

/// A BIND that knows two backends, and a directory where they are remembered.
struct World {
    backends: [Backend; 2],
    bind: Bind,
    dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let backends = [Backend::start().await, Backend::start().await];
        let records = srv(0, 1, backends[0].address, "a") + &srv(0, 3, backends[1].address, "b");
        Self { backends, bind: Bind::start(&records).await, dir: tempfile::tempdir().unwrap() }
    }

    fn config(&self, more: &str) -> String {
        let state = format!("[runtime]\nstate_dir = \"{}\"\n", self.dir.path().display());
        state + &self.bind.config("") + more
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("endpoints/api.json")
    }

    /// Lets a sidecar find the backends and remember them.
    async fn remembered(&self) {
        let sidecar = Sidecar::ready(&self.config("")).await;
        let members = self.backends.iter().map(Backend::name).collect();
        sidecar.until_members("api", members, secs(3)).await;
        eventually("it is on disk", secs(3), || async { self.file().exists().then_some(()) }).await;
    }

    fn change(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.file(), text.replace(from, to)).unwrap();
    }
}

/// How long the first answer takes from the start of the process.
async fn first_answer(sidecar: &Sidecar, since: Instant) -> std::time::Duration {
    eventually("a request is answered by a backend", secs(10), || async {
        let answer = client::get(sidecar.web(), "/").await.ok()?;
        (answer.0 == 200).then_some(())
    })
    .await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cold_start_without_discovery_serves_within_a_second() {
    let mut world = World::start().await;
    world.remembered().await;
    let check = "[clusters.api.health]\nprobe = \"tcp\"\n";
    for (fault, more) in [("silent", ""), ("silent", check), ("dead", ""), ("dead", check)] {
        match fault {
            "silent" => world.bind.freeze(),
            _ => world.bind.process.kill_once().await,
        }
        let since = Instant::now();
        let sidecar = Sidecar::start(&world.config(more)).await;
        let took = first_answer(&sidecar, since).await;
        println!("{fault} {}: {took:?}", if more.is_empty() { "" } else { "with a check" });
        // A check adds up to half a second until the first probe.
        let bound = if more.is_empty() { secs(1) } else { secs(2) };
        assert!(took < bound, "{fault}: {took:?}");
        burst(sidecar.web(), 2, 100).await.assert_no_failures();

        let cluster = sidecar.cluster("api").await;
        assert_eq!(
            (&cluster["remembered"], cluster["stale_since"].is_string()),
            (&true.into(), true)
        );
        assert_eq!(cluster["backends"][0]["source"], "dns_srv");
        let weights: f64 = cluster["backends"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["weight"]["configured"].as_f64().unwrap())
            .sum();
        assert_eq!(weights, 4.0);
        assert!(sidecar.metric("outrigger_discovery_stale_seconds", &[]).await > 0.0);
        let (_, said) = sidecar.command(&["status"]).await;
        assert!(said.contains("discovery fails: endpoints are remembered from 20"), "{said}");
        sidecar.until_ready().await;
        let (_, page) = sidecar.get("/readyz").await;
        assert!(page.contains("are remembered, and were last confirmed"), "{page}");
    }
}

/// Once the source speaks, it is its word that counts, and nobody notices the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_source_takes_over_when_it_is_back() {
    let world = World::start().await;
    world.remembered().await;
    world.bind.freeze();
    let sidecar = Sidecar::start(&world.config("")).await;
    first_answer(&sidecar, Instant::now()).await;
    let load = Load::start(sidecar.web(), 4, 300);
    world.bind.thaw();
    eventually("it is confirmed", secs(10), || async {
        let cluster = sidecar.cluster("api").await;
        (cluster["remembered"] == false && cluster["stale_since"].is_null()).then_some(())
    })
    .await;
    assert_eq!(sidecar.metric("outrigger_discovery_stale_seconds", &[]).await, 0.0);
    let port = world.backends[0].address.port();
    world.bind.update(&format!("update delete {SERVICE}. SRV 0 1 {port} a.{ZONE}.")).await;
    sidecar.until_members("api", vec![world.backends[1].name()], secs(5)).await;
    eventually("that is remembered too", secs(3), || async {
        let text = std::fs::read_to_string(world.file()).ok()?;
        (!text.contains(&world.backends[0].name())).then_some(())
    })
    .await;
    load.stop().await.assert_no_failures();
}

/// The same memory, as if it were from that year.
fn saved_in(year: &str, memory: &[u8]) -> String {
    let text = str::from_utf8(memory).unwrap();
    let at = text.find("\"saved_at\":\"").unwrap() + "\"saved_at\":\"".len();
    format!("{}{year}{}", &text[..at], &text[at + 4..])
}

/// A clock that was ahead: it serves, and the alarm about its age goes off all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_memory_from_the_future_serves_and_is_stale() {
    let world = World::start().await;
    world.remembered().await;
    world.bind.freeze();
    let memory = std::fs::read(world.file()).unwrap();
    std::fs::write(world.file(), saved_in("2199", &memory)).unwrap();
    let sidecar = Sidecar::start(&world.config("")).await;
    first_answer(&sidecar, Instant::now()).await;
    eventually("its age is counted", secs(3), || async {
        let age = sidecar.metric("outrigger_discovery_stale_seconds", &[]).await;
        (age > 0.0).then_some(())
    })
    .await;
    let since = sidecar.cluster("api").await["stale_since"].to_string();
    assert!(!since.contains("2199"), "{since}");
}

/// Whom only the disk knows gets nothing once a live source has spoken.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_live_answer_is_preferred() {
    let world = World::start().await;
    world.remembered().await;
    let former = Backend::start().await;
    world.change(&world.backends[0].name(), &former.name());
    let sidecar = Sidecar::ready(&world.config("")).await;
    let members = world.backends.iter().map(Backend::name).collect();
    sidecar.until_members("api", members, secs(5)).await;
    assert_eq!(sidecar.cluster("api").await["stale_since"], serde_json::Value::Null);
    burst(sidecar.web(), 2, 50).await.assert_no_failures();
    assert_eq!(former.hits(), 0);
}

/// What is wrong with a file, and how that comes.
type Break<'b> = (&'static str, &'b dyn Fn(&Path));

/// Too old, of another cluster, broken, or no file: a warning, and a start without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_of_no_use_is_not_used_and_never_fatal() {
    let world = World::start().await;
    world.remembered().await;
    let good = std::fs::read(world.file()).unwrap();
    world.bind.freeze();
    let breaks: [Break<'_>; 7] = [
        ("old", &|file| {
            std::fs::write(file, saved_in("2001", &good)).unwrap();
        }),
        ("of another cluster", &|_| world.change("\"cluster\":\"api\"", "\"cluster\":\"web\"")),
        ("of another format", &|_| world.change("\"format\":1", "\"format\":9")),
        ("of another source", &|_| world.change("\"source\":\"", "\"source\":\"not ")),
        ("unreadable", &|file| {
            std::fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink(file, file).unwrap();
        }),
        ("half", &|file| std::fs::write(file, &good[..good.len() / 2]).unwrap()),
        ("no file", &|file| {
            std::fs::remove_file(file).unwrap();
            std::fs::create_dir(file).unwrap();
        }),
    ];
    for (what, spoil) in breaks {
        std::fs::write(world.file(), &good).unwrap();
        spoil(&world.file());
        let sidecar = Sidecar::start(&world.config("")).await;
        eventually("the failure is seen", secs(8), || async {
            let (_, body) = sidecar.get("/api/v1/events").await;
            body.contains("discovery_failed").then_some(())
        })
        .await;
        assert_eq!(client::get(sidecar.web(), "/").await.unwrap().0, 503, "{what}");
        let log = sidecar.process.log();
        let warned = log.contains("is set aside as") || log.contains("is of no use");
        assert_eq!(warned, what != "old", "{what}: {log}");
    }
}

/// Killed while it writes, again and again, it leaves a whole file each time; two that share the
/// directory do not spoil it for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_kill_leaves_a_whole_file() {
    let world = World::start().await;
    world.remembered().await;
    let port = unused_port().port();
    for round in 0..6 {
        let sidecars =
            [Sidecar::ready(&world.config("")).await, Sidecar::ready(&world.config("")).await];
        let record = format!("{SERVICE}. 1 SRV 9 {round} {port} a.{ZONE}.");
        world.bind.update(&format!("update add {record}")).await;
        tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(500..2500))).await;
        sidecars.iter().for_each(|sidecar| sidecar.process.signal(Signal::KILL));
        let text = std::fs::read_to_string(world.file()).unwrap();
        let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(saved["endpoints"].as_array().unwrap().len() >= 2, "{text}");
    }
}
