//! Connections that are open and quiet, and there are many of them.

use std::net::SocketAddr;

use http::Response;
use http_body_util::BodyExt;
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{long, secs};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::allow_open_files;

const KIB: usize = 1 << 10;
/// Connections that are being opened at the same time.
const AT_A_TIME: usize = 100;

/// Opens so many connections and has a request answered on each.
async fn open(address: SocketAddr, count: usize, request: &str) -> Vec<Raw> {
    let mut opening = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let request = request.to_owned();
        opening.spawn(async move {
            let mut open = Vec::new();
            for _ in 0..count / AT_A_TIME {
                open.push(served(Raw::connect(address).await, &request).await);
            }
            open
        });
    }
    opening.join_all().await.into_iter().flatten().collect()
}

async fn served(mut raw: Raw, request: &str) -> Raw {
    raw.send(request).await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
    raw
}

fn count() -> usize {
    if long() { 10_000 } else { 2_000 }
}

/// A sidecar that takes so many connections, and its backend.
async fn sidecar() -> (Sidecar, Backend) {
    allow_open_files();
    let backend = Backend::answering(|request| async move {
        let field = request.headers().get("x-answer").and_then(|value| value.to_str().ok());
        let size: usize = field.and_then(|size| size.parse().ok()).unwrap_or(5);
        let answer = Response::builder().header("x-field", "x".repeat(size / 4));
        request.into_body().collect().await.unwrap();
        answer.body(full("x".repeat(size))).unwrap()
    })
    .await;
    let most = format!("cluster = \"api\"\nmax_connections = {}\n", count() + AT_A_TIME);
    let config = config(&[backend.address], "").replace("cluster = \"api\"\n", &most);
    (Sidecar::ready(&config).await, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_takes_16_kib_at_most() {
    let (sidecar, _backend) = sidecar().await;
    let get = "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n";
    // What the first requests take, they take once.
    drop(open(sidecar.web(), AT_A_TIME, get).await);
    let before = sidecar.process.memory();
    let started = Instant::now();
    let open = open(sidecar.web(), count(), get).await;
    let each = (sidecar.process.memory() - before) / count();
    println!("{} opened in {:?}: {each} bytes each", count(), started.elapsed());
    assert!(each <= 16 * KIB, "{each} bytes each");
    let active = sidecar.metric("outrigger_connections_active", &[("listener", "web")]).await;
    assert_eq!(active, count() as f64);
    // They are as good as new.
    let again = open.into_iter().step_by(97).map(|raw| served(raw, get));
    let again = futures_util::future::join_all(again);
    timeout(secs(5), again).await.expect("they are answered at once");
}

/// Whatever a connection has carried, it goes back to little when it is quiet.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_large_request_and_a_large_answer_leave_nothing_behind() {
    let (sidecar, _backend) = sidecar().await;
    let large = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nX-Field: {}\r\nX-Answer: 200000\r\nContent-Length: {}\r\n\r\n{}",
        "x".repeat(50 * KIB),
        100 * KIB,
        "x".repeat(100 * KIB),
    );
    drop(open(sidecar.web(), AT_A_TIME, &large).await);
    let before = sidecar.process.memory();
    let _open = open(sidecar.web(), count(), &large).await;
    let each = (sidecar.process.memory() - before) / count();
    println!("{} had large ones: {each} bytes each", count());
    assert!(each <= 20 * KIB, "{each} bytes each");
}
