//! Start, stop, and running out of things.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};
use rustix::process::Signal;
use tokio::process::Command;
use tokio::time::Instant;

/// Takes half a second for each answer.
async fn slow() -> Backend {
    Backend::answering(|_| async {
        tokio::time::sleep(millis(500)).await;
        Response::new(full("slow"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_request_whose_head_was_received_is_answered() {
    for signal in [Signal::TERM, Signal::INT] {
        let backend = slow().await;
        let mut sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
        let web = sidecar.web();
        let (sent, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut connections = Vec::new();
        for i in 0..20 {
            let (sent, answered) = (Arc::clone(&sent), Arc::clone(&answered));
            connections.push(tokio::spawn(async move {
                tokio::time::sleep(millis(i * 25)).await;
                let mut raw = Raw::connect(web).await;
                loop {
                    // A connection that was closed while idle takes no request.
                    if raw.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_err() {
                        return;
                    }
                    sent.fetch_add(1, Ordering::Relaxed);
                    let Some(answer) = raw.answer().await else { panic!("no answer") };
                    assert_eq!(answer.status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                    if answer.header("connection") == ["close"] {
                        assert!(raw.is_closed().await);
                        return;
                    }
                }
            }));
        }
        eventually("there is load", secs(5), || async {
            (answered.load(Ordering::Relaxed) > 20).then_some(())
        })
        .await;
        sidecar.process.signal(signal);
        assert_eq!(sidecar.process.exit(secs(10)).await, 0);
        for connection in connections {
            connection.await.unwrap();
        }
        assert_eq!(sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn readiness_fails_at_once_and_new_work_is_still_taken_for_a_second() {
    let backend = Backend::start().await;
    let mut sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let mut idle = Raw::connect(sidecar.web()).await;
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.answer().await.unwrap().header("connection"), [""; 0]);
    let untouched = Raw::connect(sidecar.web()).await;

    let start = Instant::now();
    sidecar.process.signal(Signal::TERM);
    eventually("readiness fails", millis(500), || async {
        let (status, body) = sidecar.get("/readyz").await;
        (status == 503 && body.contains("shutting down")).then_some(())
    })
    .await;
    assert_eq!(sidecar.get("/livez").await.0, 200);
    // Both an old connection and a new one.
    assert!(start.elapsed() < millis(900), "{:?}", start.elapsed());
    for raw in [&mut idle, &mut Raw::connect(sidecar.web()).await] {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, vec!["close"]));
        assert!(raw.is_closed().await);
    }
    let mut untouched = untouched;
    assert!(untouched.is_closed().await);
    assert!(start.elapsed() >= millis(950), "{:?}", start.elapsed());
    assert_eq!(sidecar.process.exit(secs(5)).await, 0);
}

/// A connection that nobody will ever accept would look like one, for as long as the rest takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_gets_through_while_the_last_requests_finish() {
    let backend = Backend::answering(|_| async {
        tokio::time::sleep(secs(4)).await;
        Response::new(full("late"))
    })
    .await;
    let mut sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    let mut last = Raw::connect(sidecar.web()).await;
    last.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is in flight", secs(2), || async { (backend.hits() == 1).then_some(()) }).await;
    sidecar.process.signal(Signal::TERM);
    eventually("connections are refused", secs(3), || async {
        tokio::net::TcpStream::connect(sidecar.web()).await.err()
    })
    .await;
    assert_eq!(last.answer().await.unwrap().text(), "late");
    assert_eq!(sidecar.process.exit(secs(5)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_outlasts_the_grace_is_cut_and_said() {
    let backend = Backend::answering(|_| async {
        tokio::time::sleep(secs(60)).await;
        Response::new(full("never"))
    })
    .await;
    let config = config(&[backend.address], "") + "[runtime]\nshutdown_grace = \"1500ms\"\n";
    let mut sidecar = Sidecar::ready(&config).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is in flight", secs(5), || async { (backend.hits() == 1).then_some(()) }).await;
    let start = Instant::now();
    assert_eq!(sidecar.stop().await, 1);
    assert!(start.elapsed() >= millis(1400) && start.elapsed() < secs(4), "{:?}", start.elapsed());
    assert!(sidecar.process.log().contains("shutdown_grace"));

    // A second signal waits for nothing.
    let mut sidecar = Sidecar::ready(&config).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    eventually("it is in flight", secs(5), || async { (backend.hits() == 2).then_some(()) }).await;
    let start = Instant::now();
    sidecar.process.signal(Signal::TERM);
    sidecar.process.line(secs(5), |line| line.contains("stopping").then_some(())).await;
    sidecar.process.signal(Signal::TERM);
    assert_eq!(sidecar.process.exit(secs(5)).await, 1);
    assert!(start.elapsed() < millis(1300), "{:?}", start.elapsed());
}

/// Has a shell set a limit and then become the sidecar.
fn limit(command: &mut Command, limit: &str) {
    let inner = command.as_std().get_program().to_owned();
    let args: Vec<_> = command.as_std().get_args().map(ToOwned::to_owned).collect();
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit {limit}; exec \"$@\"")).arg("sh").arg(inner).args(args);
    for (key, value) in command.as_std().get_envs() {
        limited.env(key, value.unwrap_or_default());
    }
    *command = limited;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn as_many_files_may_be_open_as_the_system_allows() {
    let config = config(&[], "");
    let sidecar = Sidecar::start_with(&config, |command| limit(command, "-S -n 200")).await;
    let limits = format!("/proc/{}/limits", sidecar.process.pid());
    let limits = std::fs::read_to_string(limits).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|at| line.split_whitespace().nth(at).unwrap());
    assert_eq!(soft, hard, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn running_out_of_descriptors_ends_nothing() {
    let backend = Backend::start().await;
    let config = config(&[backend.address], "")
        .replace("cluster = \"api\"\n", "cluster = \"api\"\nmax_connections = 500\n");
    let sidecar = Sidecar::start_with(&config, |command| limit(command, "-n 64")).await;
    sidecar.until_ready().await;
    let mut kept = client::Client::connect(sidecar.web()).await.unwrap();
    kept.get("/").await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(tokio::net::TcpStream::connect(sidecar.web()).await.unwrap());
    }
    sidecar.process.line(secs(5), |line| line.contains("cannot accept").then_some(())).await;
    // What there was goes on.
    assert_eq!(kept.get("/").await.unwrap().status(), 200);
    drop(crowd);
    eventually("it accepts again", secs(5), || async {
        let got = tokio::time::timeout(secs(1), client::get(sidecar.web(), "/")).await;
        matches!(got, Ok(Ok((200, _)))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_above_the_cap_wait_their_turn() {
    let backend = Backend::start().await;
    let config = config(&[backend.address], "")
        .replace("cluster = \"api\"\n", "cluster = \"api\"\nmax_connections = 3\n");
    let sidecar = Sidecar::ready(&config).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = client::Client::connect(sidecar.web()).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().status(), 200);
        open.push(client);
    }
    let mut waiting = Raw::connect(sidecar.web()).await;
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = tokio::time::timeout(millis(500), waiting.answer()).await;
    assert!(answer.is_err(), "{answer:?}");
    open.pop();
    assert_eq!(waiting.answer().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_left_behind_by_finished_work() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&config(&[backend.address], "")).await;
    burst(sidecar.web(), 2, 10).await;
    let descriptors = || {
        let dir = format!("/proc/{}/fd", sidecar.process.pid());
        std::fs::read_dir(dir).unwrap().count()
    };
    let before = descriptors();
    let load = Load::start(sidecar.web(), 50, 2000);
    tokio::time::sleep_until(load.started + secs(2)).await;
    load.stop().await.assert_no_failures();
    // Idle connections to the backend stay for a while; to be closed with it.
    backend.kill();
    eventually("descriptors are back", secs(10), || async {
        (descriptors() <= before).then_some(())
    })
    .await;
    eventually("no connection counts as open", secs(5), || async {
        let down = sidecar.metric("outrigger_connections_active", &[]).await;
        let up = sidecar.metric("outrigger_upstream_connections_active", &[]).await;
        (down == 0.0 && up == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_taken_address_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = config(&[], "").replace("127.0.0.1:0", &address.to_string());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outrigger.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(outrigger_tests::binary());
    command.arg("run").arg("-c").arg(&file).env("OUTRIGGER_ADMIN__LISTEN", "127.0.0.1:0");
    command.env("OUTRIGGER_CONTROL__LISTEN", "off");
    let mut process = outrigger_tests::process::Process::start(command);
    assert_eq!(process.exit(secs(5)).await, 1);
    let said = process.log();
    assert!(said.contains(&format!("listener `web`: cannot listen on {address}")), "{said}");
}
