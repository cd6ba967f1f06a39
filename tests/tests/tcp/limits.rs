//! More connections than there may be: who waits, where, and for how long.

use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::Instant;

use super::world::{
    Server, addresses, assert_repeats, assert_turned_away, config, greeted, until_ends, within,
};

/// Those beyond wait where the kernel keeps them, and come in when somebody leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_has_no_more_connections_than_it_may() {
    for workers in [1, 2] {
        let server = Server::greeting().await;
        let config = config(&[server.address], "")
            .replace("[listeners.web]\n", "[listeners.web]\nmax_connections = 3\n");
        let sidecar = Sidecar::ready(&format!("[runtime]\nworkers = {workers}\n{config}")).await;
        let mut inside = Vec::new();
        for _ in 0..3 {
            inside.push(greeted(sidecar.web()).await.expect("there is room").0);
        }
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let mut app = Raw::connect(sidecar.web()).await;
            app.send("patience\n").await;
            waiting.push(app);
        }
        for app in &mut inside {
            assert_repeats(app).await;
        }
        assert_eq!(sidecar.metric("outrigger_connections_active", &[]).await, 3.0);
        assert_eq!(server.accepted(), 3);
        assert!(waiting.iter().all(Raw::is_silent));
        drop(inside);
        for app in &mut waiting {
            assert_eq!(app.line().await, Some(server.name()));
            assert_eq!(app.line().await, Some("patience".into()));
        }
        let all = sidecar.metric("outrigger_connections_total", &[]).await;
        assert_eq!((all, server.accepted()), (6.0, 6), "{workers} workers");
    }
}

const QUEUE: &str = "queue = 1\nqueue_timeout = \"1s\"\n";

/// Of one backend or of all: one waits for room, the next is turned away, and room is used at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_waits_for_room_at_a_backend_is_served_in_time_or_told() {
    for limit in ["backend_max_connections = 1", "max_connections = 2", "max_requests = 2"] {
        let servers: [Server; 2] = Server::some().await;
        let limits = format!("[clusters.api.limits]\n{limit}\n{QUEUE}[runtime]\nworkers = 1\n");
        let sidecar = Sidecar::ready(&config(&addresses(&servers), &limits)).await;
        let (first, by_first) = greeted(sidecar.web()).await.expect("there is room");
        let (mut second, by_second) = greeted(sidecar.web()).await.expect("there is room");
        assert_ne!(by_first, by_second, "{limit}");

        // Nobody leaves: it is told after a while, and who comes meanwhile is told at once.
        let begun = Instant::now();
        let mut waits = Raw::connect(sidecar.web()).await;
        until_active(&sidecar, 3).await;
        assert_turned_away(sidecar.web()).await;
        assert!(begun.elapsed() < millis(800), "{limit}: {:?}", begun.elapsed());
        assert!(waits.is_closed().await);
        let waited = begun.elapsed();
        assert!(waited >= millis(950) && waited < secs(2), "{limit}: {waited:?}");
        until_ends(&sidecar, "overflow", 2).await;

        // Somebody leaves: room is for the one that waits.
        let mut waits = Raw::connect(sidecar.web()).await;
        until_active(&sidecar, 3).await;
        drop(first);
        assert_eq!(waits.line().await, Some(by_first), "{limit}");
        assert_repeats(&mut waits).await;
        assert_repeats(&mut second).await;
        let accepted: usize = servers.iter().map(Server::accepted).sum();
        assert_eq!(accepted, 3, "{limit}");
    }
}

/// It has broken off, or ended without a word: nobody waits any longer in its place, and no backend
/// hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_leaves_while_it_waits_for_room_is_noticed() {
    let (server, sidecar) = one_at_a_time().await;
    let (mut inside, _) = greeted(sidecar.web()).await.expect("there is room");
    for (count, by_reset) in [(1, true), (2, false)] {
        let mut waits = Raw::connect(sidecar.web()).await;
        until_active(&sidecar, 2).await;
        if by_reset {
            waits.send("are you there?").await;
            waits.reset();
        } else {
            drop(waits);
        }
        until_active(&sidecar, 1).await;
        until_ends(&sidecar, "app_reset", count).await;
    }
    assert_repeats(&mut inside).await;
    assert_eq!(server.accepted(), 1);
}

/// It waits for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_has_said_all_that_it_has_to_say_waits_for_room_still() {
    let (server, sidecar) = one_at_a_time().await;
    let (inside, _) = greeted(sidecar.web()).await.expect("there is room");
    let mut waits = Raw::connect(sidecar.web()).await;
    waits.send("the last word\n").await;
    waits.finish().await;
    until_active(&sidecar, 2).await;
    drop(inside);
    assert_eq!(waits.line().await, Some(server.name()));
    assert_eq!(waits.line().await, Some("the last word".into()));
    assert!(waits.is_closed().await);
    until_ends(&sidecar, "finished", 2).await;
}

/// Whoever comes second waits for longer than a test takes.
async fn one_at_a_time() -> (Server, Sidecar) {
    let server = Server::greeting().await;
    let limits = "[clusters.api.limits]\nmax_connections = 1\nqueue = 1\nqueue_timeout = \"1m\"\n";
    let sidecar = Sidecar::ready(&config(&[server.address], limits)).await;
    (server, sidecar)
}

async fn until_active(sidecar: &Sidecar, count: usize) {
    eventually(&format!("{count} are accepted"), secs(5), || async {
        let active = sidecar.metric("outrigger_connections_active", &[]).await;
        (active == count as f64).then_some(())
    })
    .await;
}

/// A hundred at a time where eight may be: each is served in its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_crowd_passes_through_a_narrow_door() {
    let servers: [Server; 2] = Server::some().await;
    let limits = "[clusters.api.limits]\nbackend_max_connections = 4\nqueue = 100\n\
         queue_timeout = \"20s\"\n";
    let sidecar = Sidecar::ready(&config(&addresses(&servers), limits)).await;
    let crowd = (0..100).map(|_| async {
        let (mut app, _) = greeted(sidecar.web()).await.expect("it is served");
        assert_repeats(&mut app).await;
        app.finish().await;
        assert!(app.is_closed().await);
    });
    within(secs(20), "all are served", futures_util::future::join_all(crowd)).await;
    until_ends(&sidecar, "finished", 100).await;
    let [a, b] = servers.each_ref().map(Server::accepted);
    assert_eq!(a + b, 100);
    assert!(a.min(b) >= 25, "{a} and {b}");
}
