//! An answer that takes away too many is doubted for a while (RELIABILITY D2, D3).

use std::time::Duration;

use outrigger_tests::backend::Backend;
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::load::Load;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};
use tokio::time::Instant;

use crate::{HTTP_CHECK, backends};

const HOLD: Duration = secs(4);
/// The TTL of the zone, its jitter, and time for an update on a busy machine.
const SEEN: Duration = secs(3);

struct World {
    all: [Backend; 4],
    bind: Bind,
    sidecar: Sidecar,
}

impl World {
    async fn start() -> Self {
        let all: [Backend; 4] = backends().await;
        let names = ["a", "b", "c", "d"];
        let records = all.iter().zip(names);
        let zone: String =
            records.map(|(backend, name)| srv(10, 1, backend.address, name)).collect();
        let bind = Bind::start(&zone).await;
        let hold = format!("removal_hold = \"{}s\"", HOLD.as_secs());
        let sidecar = Sidecar::ready(&(bind.config(&hold) + HTTP_CHECK)).await;
        let world = Self { all, bind, sidecar };
        world.until_members(&world.names(), SEEN).await;
        world
    }

    fn names(&self) -> Vec<String> {
        self.all.iter().map(Backend::name).collect()
    }

    async fn until_members(&self, wanted: &[String], patience: Duration) {
        self.sidecar.until_members("api", wanted.to_vec(), patience).await;
    }

    /// The records of these, and no others.
    async fn publish(&self, these: &[usize]) {
        let mut lines = format!("update delete {SERVICE}. SRV");
        for index in these {
            let (port, name) = (self.all[*index].address.port(), ["a", "b", "c", "d"][*index]);
            lines += &format!("\nupdate add {SERVICE}. 1 SRV 10 1 {port} {name}.{ZONE}.");
        }
        self.bind.update(&lines).await;
    }

    /// Waits until somebody is held.
    async fn until_held(&self) {
        eventually("somebody is held", SEEN, || async {
            let cluster = self.sidecar.cluster("api").await;
            let backends = cluster["backends"].as_array().unwrap();
            backends.iter().any(|backend| !backend["suspect_until"].is_null()).then_some(())
        })
        .await;
    }

    /// How often the log says that a backend is held.
    fn logged(&self, backend: &Backend) -> usize {
        let log = self.sidecar.process.log();
        let held = |line: &&str| line.contains("with too many others");
        log.lines().filter(held).filter(|line| line.contains(&backend.name())).count()
    }
}

/// Nobody is there any more, says the zone: in both ways of saying so.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_at_all_is_believed_only_when_it_lasts() {
    for record in ["", "TXT x"] {
        let world = World::start().await;
        let load = Load::start(world.sidecar.web(), 6, 300);
        if !record.is_empty() {
            // The name stays, with a record of another kind: an empty answer, not NXDOMAIN.
            world.bind.update(&format!("update add {SERVICE}. 1 {record}")).await;
        }
        world.publish(&[]).await;
        let gone = Instant::now();
        world.until_held().await;
        // Half of the time is over: it has been said again, and nobody has gone.
        tokio::time::sleep_until(gone + HOLD / 2).await;
        world.until_members(&world.names(), millis(100)).await;
        let tally = load.stop().await;
        tally.assert_no_failures();
        assert!(world.all.iter().all(|b| tally.of(b.address) > 0), "{:?}", tally.by_backend);

        world.until_members(&[], HOLD + SEEN).await;
        let held = gone.elapsed();
        assert!(held >= HOLD - secs(1), "{record}: held for {held:?} only");
        for backend in &world.all {
            assert_eq!(world.logged(backend), 1, "{}", world.sidecar.process.log());
        }
        println!("{record:?}: held for {held:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flip_to_one_and_back_moves_no_traffic() {
    let world = World::start().await;
    let load = Load::start(world.sidecar.web(), 6, 300);
    for one in [0, 3] {
        world.publish(&[one]).await;
        world.until_held().await;
        world.until_members(&world.names(), millis(100)).await;
        world.publish(&[0, 1, 2, 3]).await;
        eventually("nobody is held", SEEN, || async {
            let cluster = world.sidecar.cluster("api").await;
            let backends = cluster["backends"].as_array().unwrap();
            backends.iter().all(|backend| backend["suspect_until"].is_null()).then_some(())
        })
        .await;
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    for backend in &world.all {
        let share = tally.share(backend.address);
        assert!((share - 25.0).abs() < 3.0, "{share} % at {}", backend.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_of_four_that_lasts_is_believed_in_the_end() {
    let world = World::start().await;
    let load = Load::start(world.sidecar.web(), 6, 300);
    world.publish(&[0]).await;
    world.until_held().await;
    world.until_members(&world.names()[..1], HOLD + SEEN).await;
    load.stop().await.assert_no_failures();
}

/// A lone target `.` is no accident: it says that the service is decidedly not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lone_dot_empties_at_once() {
    let world = World::start().await;
    let said = Instant::now();
    world.publish(&[]).await;
    world.bind.update(&format!("update add {SERVICE}. 1 SRV 0 0 0 .")).await;
    world.until_members(&[], SEEN).await;
    println!("empty after {:?}", said.elapsed());
    let (status, body) = client::get(world.sidecar.web(), "/").await.unwrap();
    assert_eq!((status, body.contains("no_backend")), (503, true), "{body}");
}
