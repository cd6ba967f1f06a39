//! More work than there may be: who waits, who is turned away, and what backends see of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Response;
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::load::burst;
use outrigger_tests::moody::{Mood, Moody};
use outrigger_tests::raw::{Answer, Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A backend that answers nobody before it is told to, and knows whom it was asked for.
struct Gated {
    backend: Backend,
    open: Arc<Semaphore>,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Gated {
    async fn start() -> Self {
        let (open, paths) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<String>>>::default());
        let (gate, seen) = (Arc::clone(&open), Arc::clone(&paths));
        let backend = Backend::answering(move |request| {
            seen.lock().unwrap().push(request.uri().path().to_owned());
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Response::new(full("at last"))
            }
        })
        .await;
        Self { backend, open, paths }
    }

    fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }

    async fn until_asked_for(&self, path: &str) {
        eventually(&format!("{path} is there"), secs(5), || async {
            self.paths().contains(&path.to_owned()).then_some(())
        })
        .await;
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn assert_overflow(answer: &Answer) {
    assert_eq!((answer.status, answer.header("x-outrigger-error")), (503, vec!["overflow"]));
    assert_eq!(answer.header("retry-after"), ["1"]);
}

/// Twenty at a time where four may be: each has to wait for four others at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_waits_is_served_in_time_and_no_backend_has_more_than_it_may() {
    let each = millis(20);
    for (limits, of_one, of_all) in [
        ("max_requests = 4", 4, 4),
        ("backend_max_requests = 2", 2, 4),
        ("backend_max_connections = 2", 2, 4),
        ("max_connections = 4", 4, 4),
    ] {
        let backends: [Moody; 2] = Moody::some(Mood::Good(each)).await;
        let addresses = backends.each_ref().map(|backend| backend.address);
        let rules =
            format!("[clusters.api.limits]\n{limits}\nqueue = 20\nqueue_timeout = \"5s\"\n");
        let sidecar = Sidecar::ready(&config(&addresses, &rules)).await;
        let started = Instant::now();
        let tally = burst(sidecar.web(), 20, 25).await;
        let took = started.elapsed();
        tally.assert_no_failures();
        let busiest = backends.iter().map(Moody::most_requests).max().unwrap();
        let slowest = tally.slowest;
        // Each connection carries one request at a time, and when all is quiet none is left over.
        let open = addresses.map(established);
        println!("{limits}: {took:?}, slowest {slowest:?}, {busiest} at a time, {open:?} left");
        assert!(busiest <= of_one, "{limits}: {busiest} at a time");
        if limits.contains("connections") {
            assert!(open.iter().all(|open| *open <= of_one), "{limits}: {open:?} left");
            assert!(open.iter().sum::<usize>() <= of_all, "{limits}: {open:?} left");
        }
        // 500 requests by fours. Nobody is passed over for long.
        let fair = each * 500 / 4;
        assert!(took <= fair * 2, "{limits}: {took:?} instead of {fair:?}");
        assert!(slowest <= each * (20 / 4) * 5, "{limits}: {slowest:?}");
    }
}

/// Connections that are open to a backend now, as the kernel has it.
fn established(to: SocketAddr) -> usize {
    let local = format!("0100007F:{:04X}", to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets.filter(|fields| fields[1] == local && fields[3] == "01").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn above_the_queue_and_after_its_timeout_the_answer_is_overflow() {
    let gated = Gated::start().await;
    let rules = "[clusters.api.limits]\nmax_requests = 1\nqueue = 1\nqueue_timeout = \"500ms\"\n";
    let sidecar = Sidecar::ready(&config(&[gated.backend.address], rules)).await;
    let mut served = Raw::connect(sidecar.web()).await;
    served.send(get("/served")).await;
    gated.until_asked_for("/served").await;

    let mut queued = Raw::connect(sidecar.web()).await;
    let started = Instant::now();
    queued.send(get("/queued")).await;
    // One of the two is in the queue, and the other is told so at once.
    let mut other = Raw::connect(sidecar.web()).await;
    other.send(get("/other")).await;
    let first = tokio::select! {
        answer = queued.answer() => answer,
        answer = other.answer() => answer,
    };
    let took = started.elapsed();
    assert_overflow(&first.unwrap());
    assert!(took < millis(250), "{took:?}");
    let last = tokio::select! {
        Some(answer) = queued.answer() => answer,
        Some(answer) = other.answer() => answer,
    };
    let took = started.elapsed();
    assert_overflow(&last);
    assert!(took >= millis(500) && took < millis(1500), "{took:?}");
    assert_eq!(sidecar.metric("outrigger_errors_total", &[("reason", "overflow")]).await, 2.0);

    gated.open.add_permits(1);
    assert_eq!(served.answer().await.unwrap().status, 200);
    assert_eq!(gated.paths(), ["/served"]);
}

/// With a body or without, by a close or by a reset. (HAProxy's `http_abortonclose`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_leaves_while_it_waits_never_reaches_a_backend() {
    let post = "POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    for request in [&*get("/left"), post] {
        for reset in [false, true] {
            let what = format!("{request:?}, by a reset: {reset}");
            let gated = Gated::start().await;
            let sidecar = Sidecar::ready(&one_at_a_time(&gated)).await;
            let mut served = Raw::connect(sidecar.web()).await;
            served.send(get("/served")).await;
            gated.until_asked_for("/served").await;

            let mut leaves = Raw::connect(sidecar.web()).await;
            leaves.send(request).await;
            until_read(&sidecar).await;
            assert_overflow(&exchange(sidecar.web(), get("/other")).await);
            match reset {
                true => leaves.reset(),
                false => drop(leaves),
            }
            let mut stays = until_waiting(&sidecar, "/stays").await;
            gated.open.add_permits(3);
            assert_eq!(served.answer().await.unwrap().status, 200, "{what}");
            assert_eq!(stays.answer().await.unwrap().status, 200, "{what}");
            assert_eq!(gated.paths(), ["/served", "/stays"], "{what}");
        }
    }
}

/// It may be there still: then it learns what those learn for whom there is no room.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_has_said_all_does_not_wait() {
    let gated = Gated::start().await;
    let sidecar = Sidecar::ready(&one_at_a_time(&gated)).await;
    let mut served = Raw::connect(sidecar.web()).await;
    served.send(get("/served")).await;
    gated.until_asked_for("/served").await;
    let mut half = Raw::connect(sidecar.web()).await;
    half.send(get("/half")).await;
    half.finish().await;
    assert_overflow(&half.answer().await.unwrap());
    assert!(half.is_closed().await);
    assert_eq!(gated.paths(), ["/served"]);
}

/// One worker, one request at a time, and one that waits.
fn one_at_a_time(gated: &Gated) -> String {
    let limits = "[clusters.api.limits]\nmax_requests = 1\nqueue = 1\nqueue_timeout = \"20s\"\n";
    config(&[gated.backend.address], limits) + "[runtime]\nworkers = 1\n"
}

/// The one worker answers this when it knows what came before.
async fn until_read(sidecar: &Sidecar) {
    assert_eq!(exchange(sidecar.web(), "no request\r\n\r\n").await.status, 400);
}

/// Sends a request until there is room for it in the queue.
async fn until_waiting(sidecar: &Sidecar, path: &str) -> Raw {
    eventually("there is room in the queue", secs(5), || async {
        let mut raw = Raw::connect(sidecar.web()).await;
        raw.send(get(path)).await;
        until_read(sidecar).await;
        raw.is_silent().then_some(raw)
    })
    .await
}
