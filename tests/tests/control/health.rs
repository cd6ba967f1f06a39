//! `grpc.health.v1.Health`: the sidecar and its clusters, as orchestrators and clients of gRPC ask.

use outrigger_tests::control::Caller;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::config;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_sidecar_and_its_clusters_are_asked_by_name() {
    let empty = "[clusters.empty.discovery]\nsource = \"static\"\nendpoints = []\n";
    let sidecar = Sidecar::ready(&(config(2) + empty)).await;
    let mut health = Caller::of(&sidecar).await.health();
    for (service, expected) in [
        ("", ServingStatus::Serving),
        ("api", ServingStatus::Serving),
        ("empty", ServingStatus::NotServing),
    ] {
        let status = health.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, expected, "{service:?}");
    }
    assert_eq!(health.check(of("nobody")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_tells_every_change() {
    let sidecar = Sidecar::ready(&config(1)).await;
    let mut health = Caller::of(&sidecar).await.health();
    let mut told = health.watch(of("api")).await.unwrap().into_inner();
    let mut nobody = health.watch(of("nobody")).await.unwrap().into_inner();
    let next = |answer: Result<_, _>| answer.expect("it is told");
    let status = next(timeout(secs(5), nobody.message()).await).unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::ServiceUnknown);
    let mut status = async || {
        let message = timeout(secs(5), told.message()).await.expect("it is told");
        message.unwrap().unwrap().status()
    };
    assert_eq!(status().await, ServingStatus::Serving);
    sidecar.drain("10.0.0.1:1", "1h").await;
    assert_eq!(status().await, ServingStatus::NotServing);
    sidecar.order("10.0.0.1:1", "resume", "").await;
    assert_eq!(status().await, ServingStatus::Serving);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_sidecar_serves_no_more_once_it_stops() {
    let mut sidecar = Sidecar::ready(&config(1)).await;
    let mut health = Caller::of(&sidecar).await.health();
    let mut told = health.watch(of("")).await.unwrap().into_inner();
    let mut statuses = async || Some(told.message().await.ok()??.status());
    assert_eq!(statuses().await, Some(ServingStatus::Serving));
    let (code, status) = tokio::join!(sidecar.stop(), statuses());
    assert_eq!((code, status), (0, Some(ServingStatus::NotServing)));
}
