//! A machine that vanishes: its connections stay open, and nobody is behind them.

use outrigger_tests::backend::{Backend, ByHand, config};
use outrigger_tests::client::{Client, request};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::vanishing::{Vanishing, cut};
use outrigger_tests::{eventually, millis, secs};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

/// How long the kernel may believe in a peer that acknowledges nothing.
const GIVEN_UP: std::time::Duration = secs(6);
/// What the kernel's timers, a gauge that is set each second, and a busy machine may add.
const LATE: std::time::Duration = secs(3);

struct World {
    _others: [Backend; 3],
    vanishing: Vanishing,
    sidecar: Sidecar,
}

/// Four backends, one of which will vanish, each with connections that were used and kept.
async fn world() -> World {
    let others = [Backend::start().await, Backend::start().await, Backend::start().await];
    let vanishing = Vanishing::start().await;
    let mut addresses = others.each_ref().map(|backend| backend.address).to_vec();
    addresses.push(vanishing.address);
    let sidecar = Sidecar::ready(&config(&addresses, "[runtime]\nworkers = 1\n")).await;
    burst(sidecar.web(), 8, 100).await.assert_no_failures();
    vanishing.until_heard().await;
    let world = World { _others: others, vanishing, sidecar };
    eventually("connections to it are kept", secs(5), || async {
        (world.kept().await > 0.0).then_some(())
    })
    .await;
    world
}

impl World {
    /// Open connections to the one that vanishes.
    async fn kept(&self) -> f64 {
        let labels = [("backend", &*self.vanishing.name())];
        self.sidecar.metric("outrigger_upstream_connections_active", &labels).await
    }

    async fn outcomes(&self, outcome: &str) -> f64 {
        let labels = [("backend", &*self.vanishing.name()), ("outcome", outcome)];
        self.sidecar.metric("outrigger_outcomes_total", &labels).await
    }
}

/// With so little traffic nothing piles up that would show a stall: only TCP can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_use_of_a_kept_connection_moves_to_another_backend() {
    for method in ["GET", "PUT", "POST"] {
        let world = world().await;
        let mut client = Client::connect(world.sidecar.web()).await.unwrap();
        world.vanishing.vanish();
        let mut unanswered = 0;
        while world.outcomes("timeout").await == 0.0 {
            let sent = Instant::now();
            let request = request(method, "/", world.sidecar.web()).body(Default::default());
            let answer = client.send(request.unwrap()).await.unwrap();
            assert!(sent.elapsed() < GIVEN_UP + LATE, "{method} took {:?}", sent.elapsed());
            if answer.status() != 200 {
                assert_eq!(answer.headers()["x-outrigger-error"], "timeout");
                unanswered += 1;
            }
        }
        // A POST may have been acted upon.
        assert_eq!(unanswered, usize::from(method == "POST"), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn kept_connections_are_given_up_before_they_are_used() {
    let world = world().await;
    let mut client = Client::connect(world.sidecar.web()).await.unwrap();
    world.vanishing.vanish();
    eventually("no connection is left", GIVEN_UP + LATE, || async {
        (world.kept().await == 0.0).then_some(())
    })
    .await;
    // What is left is that nobody can connect, which costs that timeout and, until the ejection
    // after the third, not even a POST.
    for _ in 0..20 {
        let sent = Instant::now();
        let request = request("POST", "/", world.sidecar.web()).body(Default::default());
        assert_eq!(client.send(request.unwrap()).await.unwrap().status(), 200);
        assert!(sent.elapsed() < secs(1) + LATE, "{:?}", sent.elapsed());
    }
    assert_eq!(world.outcomes("connect_failed").await, 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn under_load_it_takes_no_more_than_a_stall() {
    let world = world().await;
    let load = Load::start(world.sidecar.web(), 64, 1000);
    tokio::time::sleep_until(load.started + secs(1)).await;
    world.vanishing.vanish();
    let vanished = load.started.elapsed();
    tokio::time::sleep_until(load.started + secs(5)).await;
    let tally = load.stop().await;
    tally.assert_no_failures();
    let late = tally.times(vanished + secs(2)..secs(5));
    println!("slowest {:?}, two seconds later {:?}", tally.slowest, late.last());
    assert!(tally.slowest < GIVEN_UP, "{:?}", tally.slowest);
    assert!(*late.last().unwrap() < millis(500), "{late:?}");
}

/// It reads nothing for longer than somebody may be silent who has vanished, and its kernel has
/// no room for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_is_slow_to_read_has_not_vanished() {
    const BODY: usize = 16 << 20;
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n");
    let sending = tokio::spawn(async move {
        app.send(head).await;
        app.send(vec![b'x'; BODY]).await;
        app.answer().await.unwrap().status
    });
    let mut served = backend.accept().await;
    tokio::time::sleep(GIVEN_UP + secs(2)).await;
    served.request().await.unwrap();
    served.exactly(BODY).await;
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(sending.await.unwrap(), 200);
}

/// A tunnel whose backend has vanished ends within a minute, whether something is sent or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_to_nowhere_ends() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let (mut used, _served) = tunnel(&sidecar, &backend).await;
    let (unused, _served) = tunnel(&sidecar, &backend).await;
    used.send("hello").await;
    let start = Instant::now();
    for mut app in [used, unused] {
        let ended = timeout(secs(60) + LATE, app.stream.read(&mut [0; 1])).await;
        ended.expect("it ends").expect_err("it breaks off");
        println!("ended after {:?}", start.elapsed());
    }
    assert!(start.elapsed() < secs(63) + LATE, "{:?}", start.elapsed());
}

/// Both ends of a tunnel whose backend has just vanished.
async fn tunnel(sidecar: &Sidecar, backend: &ByHand) -> (Raw, Raw) {
    let mut app = Raw::connect(sidecar.web()).await;
    app.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    served.send(switch).await;
    assert_eq!(app.head().await.unwrap().status, 101);
    cut(&served.stream);
    (app, served)
}
