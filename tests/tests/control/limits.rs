//! What callers may ask for has bounds, and whoever meets one is told.

use outrigger_proto::v1;
use outrigger_tests::backend::{Backend, config as serving};
use outrigger_tests::control::Caller;
use outrigger_tests::load::Load;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::Code;
use tonic_types::StatusExt;

use crate::config;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_message_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let sidecar = Sidecar::start(&config(1)).await;
    let mut control = Caller::of(&sidecar).await.control();
    let before = sidecar.process.memory();
    let cluster = "x".repeat(5 << 20);
    let status = control.list_clusters(v1::ListClustersRequest { cluster }).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, "message");
    // One that is merely absurd is understood.
    let cluster = "x".repeat(1 << 20);
    let status = control.list_clusters(v1::ListClustersRequest { cluster }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().len() < 400, "{}", status.message().len());
    let list = control.list_clusters(v1::ListClustersRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().clusters.len(), 1);
    let grown = sidecar.process.memory().saturating_sub(before) >> 20;
    assert!(grown < 16, "{grown} MiB");
}

/// 10,000 streams at once: those for which there is room are served, the others are told, and requests
/// go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn streams_are_bounded_and_traffic_does_not_notice() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&serving(&[backend.address], "")).await;
    let load = Load::start(sidecar.web(), 4, 200);
    let (mut open, mut refused, mut callers) = (Vec::new(), 0, Vec::new());
    for _ in 0..100 {
        let caller = Caller::of(&sidecar).await;
        let tries = (0..100).map(|_| caller.watch());
        for answer in futures_util::future::join_all(tries).await {
            match answer {
                Ok(told) => open.push(told),
                Err(status) => {
                    let violations = status.get_details_quota_failure().unwrap().violations;
                    assert_eq!(violations[0].subject, "streams");
                    refused += 1;
                }
            }
        }
        callers.push(caller);
    }
    assert_eq!((open.len(), refused), (2_000, 8_000));
    // There is room again as soon as somebody leaves.
    drop(open.pop());
    eventually("there is room", secs(5), || async { callers[99].watch().await.ok() }).await;
    drop((open, callers));
    eventually("all is given back", secs(10), || async {
        let caller = Caller::of(&sidecar).await;
        let tries = (0..100).map(|_| caller.watch());
        let all = futures_util::future::join_all(tries).await;
        all.iter().all(Result::is_ok).then_some(())
    })
    .await;
    load.stop().await.assert_no_failures();
}

/// A caller has 2,000 changes a second, and 4,000 at once: more are refused where a machine is fast
/// enough for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn changes_have_a_pace_and_questions_none() {
    let sidecar = Sidecar::start(&config(1)).await;
    let caller = Caller::of(&sidecar).await;
    let report = || {
        let mut control = caller.control();
        let request = v1::ReportOutcomeRequest { cluster: "api".into(), ..Default::default() };
        async move { control.report_outcome(request).await.unwrap_err() }
    };
    let (start, mut taken, mut refused) = (Instant::now(), 0.0, Vec::new());
    while start.elapsed() < secs(3) {
        for status in futures_util::future::join_all((0..100).map(|_| report())).await {
            match status.get_details_retry_info() {
                Some(retry) => refused.push(retry.retry_delay.unwrap()),
                None => taken += 1.0,
            }
        }
    }
    let allowed = 4_000.0 + 2_000.0 * start.elapsed().as_secs_f64();
    println!("{taken} taken, {} refused", refused.len());
    assert!(taken <= allowed, "{taken} of {allowed}");
    assert!(taken + refused.len() as f64 <= allowed || !refused.is_empty());
    assert!(refused.iter().all(|wait| *wait < secs(1)));
    let list = caller.control().list_clusters(v1::ListClustersRequest::default()).await;
    assert!(list.is_ok(), "a question changes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_connects_and_says_nothing_is_sent_away() {
    let sidecar = Sidecar::start(&config(1)).await;
    let start = Instant::now();
    let mut silent = TcpStream::connect(&sidecar.control).await.unwrap();
    let mut all = Vec::new();
    let ended = timeout(secs(40), silent.read_to_end(&mut all)).await;
    assert!(ended.is_ok(), "{:?}", start.elapsed());
}
