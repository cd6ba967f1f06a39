//! A drain by order, as traffic meets it.

use futures_util::future::join_all;
use outrigger_tests::backend::{ByHand, config};
use outrigger_tests::load::Load;
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::{Instant, interval, sleep_until};

use super::world::{Worker, ask, assert_after, cookie_for, download};

const BY_COOKIE: &str = "[clusters.api.affinity]\nby = \"cookie\"\n";
/// A request that was picked for a backend just before its drain may take so long to arrive.
const ON_ITS_WAY: std::time::Duration = millis(50);
/// What is left at the deadline is closed over this much time.
const SPREAD: std::time::Duration = secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn work_finishes_affinity_stays_and_the_rest_is_cut_at_the_timeout() {
    let (a, b) = (Worker::start().await, Worker::start().await);
    let sidecar = Sidecar::ready(&config(&[a.address(), b.address()], BY_COOKIE)).await;
    let web = sidecar.web();
    let cookie = cookie_for(web, &a.name()).await;
    let (from, cut) = download(web, &cookie).await;
    assert_eq!(from, a.name());
    let started = Instant::now();
    let slow = tokio::spawn({
        let cookie = cookie.clone();
        async move { ask(web, "/slow", &cookie).await }
    });
    eventually("the slow request has arrived", secs(2), || async {
        (a.asked_for("/slow", started) == 1).then_some(())
    })
    .await;
    let load = Load::start(web, 4, 200);
    sleep_until(load.started + millis(500)).await;

    let ordered = Instant::now();
    sidecar.drain(&a.name(), "3s").await;
    let drained = Instant::now();
    assert_eq!(slow.await.unwrap(), (a.name(), None));
    // Until the deadline whoever belongs to it still arrives.
    let mut paces = interval(millis(100));
    while ordered.elapsed() < millis(2500) {
        paces.tick().await;
        assert_eq!(ask(web, "/mine", &cookie).await, (a.name(), None));
    }
    let cut = cut.await.unwrap();
    assert!(!cut.whole);
    assert_after(ordered, cut.at, secs(3), SPREAD);
    // From then on it belongs elsewhere, and is told so; the cluster looks every 100 ms.
    let set = eventually("it belongs elsewhere", millis(300), || async {
        let (from, set) = ask(web, "/mine", &cookie).await;
        (from == b.name()).then_some(set)
    })
    .await;
    assert!(set.is_some_and(|set| set.starts_with("LB_SESSION_api=")));

    let tally = load.stop().await;
    tally.assert_no_failures();
    assert_eq!(a.asked_for("/", drained + ON_ITS_WAY), 0);
    eventually("it is drained", secs(3), || async {
        (sidecar.backend(&a.name()).await["drain"]["done"] == true).then_some(())
    })
    .await;
    assert_eq!(sidecar.backend(&a.name()).await["drain"]["forced"], 1);
    assert_eq!(sidecar.metric("outrigger_drains_total", &[("result", "forced")]).await, 1.0);

    let (status, view) = sidecar.order(&a.name(), "resume", "").await;
    assert_eq!((status, &view["backend"]["state"]), (200, &"ready".into()), "{view}");
    assert_eq!(view["backend"]["drain"], serde_json::Value::Null);
    cookie_for(web, &a.name()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_keep_affinity_nothing_arrives_any_more() {
    let (a, b) = (Worker::start().await, Worker::start().await);
    let rules = format!("{BY_COOKIE}[clusters.api.drain]\nkeep_affinity = false\n");
    let sidecar = Sidecar::ready(&config(&[a.address(), b.address()], &rules)).await;
    let cookie = cookie_for(sidecar.web(), &a.name()).await;
    let load = Load::start(sidecar.web(), 4, 200);
    sleep_until(load.started + millis(500)).await;
    sidecar.drain(&a.name(), "3s").await;
    let drained = Instant::now();
    let (from, set) = ask(sidecar.web(), "/mine", &cookie).await;
    assert!(from == b.name() && set.is_some());
    sleep_until(drained + secs(2)).await;
    load.stop().await.assert_no_failures();
    assert_eq!(a.asked_for("/", drained + ON_ITS_WAY) + a.asked_for("/mine", drained), 0);
    // Nothing was left: done long before the deadline.
    assert_eq!(sidecar.backend(&a.name()).await["drain"]["done"], true);
    assert_eq!(sidecar.metric("outrigger_drains_total", &[("result", "completed")]).await, 1.0);
}

/// Clients that come back all at once would be a storm.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_left_is_closed_over_a_second() {
    let (a, b) = (Worker::start().await, Worker::start().await);
    let sidecar = Sidecar::ready(&config(&[a.address(), b.address()], BY_COOKIE)).await;
    let cookie = cookie_for(sidecar.web(), &a.name()).await;
    let begun = join_all((0..40).map(|_| download(sidecar.web(), &cookie))).await;
    let ordered = Instant::now();
    sidecar.drain(&a.name(), "1s").await;
    let mut ends = Vec::new();
    for (from, cut) in begun {
        let cut = cut.await.unwrap();
        assert!(from == a.name() && !cut.whole);
        assert_after(ordered, cut.at, secs(1), SPREAD);
        ends.push(cut.at);
    }
    ends.sort_unstable();
    let spread = ends[39] - ends[0];
    assert!(spread >= millis(500), "all were cut within {spread:?}");
    eventually("it is drained", secs(3), || async {
        (sidecar.backend(&a.name()).await["drain"]["forced"] == 40).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn idle_connections_close_at_once_and_busy_ones_after_their_answer() {
    let (a, b) = (ByHand::listen().await, Worker::start().await);
    // One worker, so that turns are exact.
    let one = "[runtime]\nworkers = 1\n";
    let sidecar = Sidecar::ready(&(config(&[a.address, b.address()], "") + one)).await;
    let mut at_a = Vec::new();
    // Two requests at a time to A, so that it has two connections.
    let mut apps = Vec::new();
    while at_a.len() < 2 {
        let mut app = Raw::connect(sidecar.web()).await;
        app.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::select! {
            served = a.accept() => { at_a.push(served); apps.push(app); }
            answer = app.answer() => assert_eq!(answer.unwrap().status, 200),
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let [mut idle, mut busy] = <[Raw; 2]>::try_from(at_a).unwrap();
    for served in [&mut idle, &mut busy] {
        served.request().await.unwrap();
    }
    idle.send(answer).await;
    assert_eq!(apps[0].answer().await.unwrap().text(), "ok");
    sidecar.drain(&a.address.to_string(), "30s").await;
    let ordered = Instant::now();
    assert!(idle.is_closed().await);
    assert!(ordered.elapsed() < millis(500), "{:?}", ordered.elapsed());
    busy.send(answer).await;
    assert_eq!(apps[1].answer().await.unwrap().text(), "ok");
    assert!(busy.is_closed().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_is_cut_at_the_timeout() {
    let backend = ByHand::listen().await;
    let spare = Worker::start().await;
    let sidecar = Sidecar::ready(&config(&[backend.address, spare.address()], "")).await;
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";
    let (mut app, mut served) = loop {
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(ask).await;
        tokio::select! {
            served = backend.accept() => break (app, served),
            answer = app.answer() => assert_eq!(answer.unwrap().status, 200),
        }
    };
    served.request().await.unwrap();
    served.send("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 101);
    let ordered = Instant::now();
    sidecar.drain(&backend.address.to_string(), "1s").await;
    app.send("still here").await;
    assert_eq!(served.exactly(10).await, b"still here");
    let (_, end) = app.rest_and_end().await;
    assert_after(ordered, Instant::now(), secs(1), SPREAD);
    // Nobody may take it for the end of what was to be said.
    assert!(end.is_err());
    eventually("it is counted", secs(3), || async {
        let forced = [("result", "forced")];
        (sidecar.metric("outrigger_drains_total", &forced).await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_backend_gets_nothing_either() {
    let a = Worker::start().await;
    let sidecar = Sidecar::ready(&config(&[a.address()], "")).await;
    sidecar.drain(&a.name(), "30s").await;
    let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let reason = answer.header("x-outrigger-error");
    assert_eq!((answer.status, reason), (503, vec!["no_eligible_backend"]));
}
