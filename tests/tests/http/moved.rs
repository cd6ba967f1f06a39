//! What is moved to another backend, and what had better stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use outrigger_tests::backend::{Backend, RawBackend, X_BACKEND, config, full, unused_port};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::time::{Instant, sleep};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Reads every request whole before it answers.
async fn reader() -> Backend {
    Backend::answering(|request| async move {
        let _ = request.into_body().collect().await;
        Response::new(full("ok"))
    })
    .await
}

/// Uploads that take their time looked like a backend that has stalled; they were moved although
/// their bodies were no longer there, and a healthy backend was ejected for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn slow_uploads_to_a_healthy_backend_are_left_alone() {
    let (a, b) = (reader().await, reader().await);
    let sidecar = Sidecar::start(&config(&[a.address, b.address], "")).await;
    let web = sidecar.web();
    let upload = async || {
        let mut app = Raw::connect(web).await;
        app.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n").await;
        for _ in 0..20 {
            app.send("x".repeat(20_000)).await;
            sleep(millis(75)).await;
        }
        app.answer().await.unwrap().status
    };
    let uploads = async { join_all((0..12).map(|_| upload())).await };
    let others = async {
        for _ in 0..15 {
            assert_eq!(exchange(web, GET).await.status, 200);
            sleep(millis(100)).await;
        }
    };
    let (statuses, ()) = tokio::join!(uploads, others);
    assert_eq!(statuses, [200; 12]);
    assert_eq!(sidecar.metric("outrigger_ejections_total", &[]).await, 0.0);
    assert_eq!(sidecar.metric("outrigger_retries_total", &[]).await, 0.0);
}

/// The answer that there was became a false 502.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_would_be_tried_again_stands_where_there_is_nobody_else() {
    let busy = Backend::answering(|_| async {
        let mut response = Response::new(full("come back later"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let rules = "[clusters.api.retry]\non_status = [\"503\"]\n";
    let sidecar = Sidecar::start(&config(&[busy.address], rules)).await;
    let answer = exchange(sidecar.web(), GET).await;
    assert_eq!((answer.status, answer.text()), (503, "come back later".into()));
    assert_eq!(answer.header("x-outrigger-error"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn statuses_that_are_no_failures_eject_nobody() {
    let busy = Backend::answering(|_| async {
        let mut response = Response::new(full("not so fast"));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
    })
    .await;
    let well = Backend::start().await;
    let rules = "[clusters.api.retry]\non_status = [\"429\"]\n";
    let sidecar = Sidecar::start(&config(&[busy.address, well.address], rules)).await;
    for _ in 0..20 {
        let answer = exchange(sidecar.web(), GET).await;
        assert_eq!((answer.status, answer.header(X_BACKEND)), (200, vec![&*well.name()]));
    }
    assert!(busy.hits() > 5, "{}", busy.hits());
    assert_eq!(sidecar.metric("outrigger_ejections_total", &[]).await, 0.0);
}

/// A short deadline left no time for the longest pause, which this retry does not need.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_connection_is_tried_elsewhere_within_any_deadline() {
    let well = Backend::start().await;
    let rules = "[clusters.api.timeouts]\nresponse = \"200ms\"\n\
                 [clusters.api.outlier]\nenabled = false\n";
    let sidecar = Sidecar::start(&config(&[well.address, unused_port()], rules)).await;
    for _ in 0..10 {
        assert_eq!(exchange(sidecar.web(), GET).await.status, 200);
    }
}

/// A kept connection that had been closed says nothing about the backend: whoever belongs there
/// was sent away for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_closed_connection_moves_nobody_from_their_backend() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let a = RawBackend::answering(b"\r\n\r\n", answer, true).await;
    let b = RawBackend::answering(b"\r\n\r\n", answer, true).await;
    let rules = "[clusters.api.affinity]\nby = \"cookie\"\n";
    let sidecar = Sidecar::start(&config(&[a.address, b.address], rules)).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(GET).await;
    let first = app.answer().await.unwrap();
    let cookie = first.header("set-cookie")[0].split(';').next().unwrap().to_owned();
    for _ in 0..50 {
        app.send(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).await;
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("set-cookie")), (200, vec![]));
    }
}

/// What is usual was taken from an average with penalties in it: the trial took ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_trial_that_hangs_costs_its_request_a_second() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Well for ten requests, then five failures, then silence.
    let odd = Backend::answering(move |_| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut response = Response::new(full("odd"));
            match turn {
                0..10 => {}
                10..15 => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
                _ => sleep(secs(60)).await,
            }
            response
        }
    })
    .await;
    let well = Backend::start().await;
    let rules = "[clusters.api.outlier]\nbase_ejection = \"1s\"\n";
    let sidecar = Sidecar::start(&config(&[odd.address, well.address], rules)).await;
    eventually("the trial begins", secs(10), || async {
        let started = Instant::now();
        exchange(sidecar.web(), GET).await;
        assert!(started.elapsed() < secs(2), "{:?}", started.elapsed());
        (asked.load(Ordering::SeqCst) > 15).then_some(())
    })
    .await;
    let trials = [("reason", "trial")];
    assert_eq!(sidecar.metric("outrigger_ejections_total", &trials).await, 1.0);
    assert_eq!(sidecar.metric("outrigger_requests_total", &[("code", "504")]).await, 0.0);
}

/// Work that had to stay at a stalled backend did not hear that it was to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_could_not_be_moved_is_cut_all_the_same() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let hangs = Backend::answering(move |request| {
        let waits = request.uri().path() == "/hang";
        count.fetch_add(usize::from(waits), Ordering::SeqCst);
        async move {
            if waits {
                sleep(secs(60)).await;
            }
            Response::new(full("ok"))
        }
    })
    .await;
    let well = Backend::start().await;
    let rules = "[clusters.api.retry]\nbudget = \"0%\"\nmin_per_second = 0\n\
                 [runtime]\nworkers = 1\n";
    let sidecar = Sidecar::start(&config(&[hangs.address, well.address], rules)).await;
    let web = sidecar.web();
    for _ in 0..4 {
        exchange(web, GET).await;
    }
    let hang = move || async move {
        let mut app = Raw::connect(web).await;
        app.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
        tokio::time::timeout(secs(20), app.stream.readable()).await.expect("it ends").unwrap();
        app.answer().await.unwrap().status
    };
    // One after the other, so that the one that is well answers while the other hangs.
    let mut hanging = Vec::new();
    for _ in 0..40 {
        hanging.push(tokio::spawn(hang()));
        sleep(millis(20)).await;
    }
    sidecar.until_state("api", &hangs.name(), "ejected", secs(5)).await;
    sidecar.drain(&hangs.name(), "1s").await;
    let drained = Instant::now();
    let statuses: Vec<u16> = join_all(hanging).await.into_iter().map(Result::unwrap).collect();
    assert!(drained.elapsed() < secs(4), "{:?}", drained.elapsed());
    let cut = statuses.iter().filter(|status| **status == 502).count();
    assert_eq!(cut, asked.load(Ordering::SeqCst), "{statuses:?}");
}

/// Nobody else to ask: the budget was spent all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hedge_that_cannot_be_costs_nothing() {
    let slow = Backend::answering(|_| async {
        sleep(millis(150)).await;
        Response::new(full("slow"))
    })
    .await;
    let rules =
        "[clusters.api.retry]\nhedge_after = \"20ms\"\nmin_per_second = 0\nbudget = \"0%\"\n";
    let sidecar = Sidecar::start(&config(&[slow.address], rules)).await;
    for _ in 0..5 {
        assert_eq!(exchange(sidecar.web(), GET).await.status, 200);
    }
    assert_eq!(sidecar.metric("outrigger_retries_total", &[]).await, 0.0);
}
