//! Direct mode: picks as the sidecar makes them, and without it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use http::Request;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use outrigger_sdk::{AffinityInterceptor, Balancer, Outcome, State};
use outrigger_tests::backend::serve;
use outrigger_tests::{eventually, secs};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Status;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::health_reporter;

use crate::world::{TTL, World, backends};

fn picks(balancer: &Balancer, times: u32) -> BTreeMap<String, u32> {
    let mut picks = BTreeMap::new();
    for _ in 0..times {
        *picks.entry(balancer.pick().expect("somebody").name().to_owned()).or_default() += 1;
    }
    picks
}

async fn until_share(balancer: &Balancer, name: &str, percent: u32) {
    eventually(&format!("{name} has {percent} %"), secs(5), async || {
        let share = picks(balancer, 100).get(name).copied().unwrap_or(0);
        (share.abs_diff(percent) <= 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn picks_follow_orders_and_outlive_the_sidecar() {
    let [a, b] = backends().await;
    let mut world = World::start(&[a.address, b.address], "").await;
    let balancer = Balancer::new(world.client.clone(), "api").await.unwrap();
    until_share(&balancer, &a.name(), 50).await;
    let lease = world.client.lease("app").await.unwrap();
    lease.set_weight("api", &a.name(), 3).await.unwrap();
    until_share(&balancer, &a.name(), 75).await;
    lease.set_affinity("api", "k", Some(&b.name())).await.unwrap();
    for _ in 0..20 {
        assert_eq!(balancer.pick_for("k").await.unwrap().name(), b.name());
    }
    lease.drain("api", &b.name(), None).await.unwrap();
    until_share(&balancer, &a.name(), 100).await;

    world.sidecar.process.kill().await;
    drop(lease);
    assert_eq!(picks(&balancer, 100)[&a.name()], 100);
    assert_eq!(balancer.pick_for("k").await.unwrap().name(), b.name());
    world.restart().await;
    until_share(&balancer, &a.name(), 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn outcomes_of_direct_calls_eject() {
    let [a, b] = backends().await;
    let world = World::start(&[a.address, b.address], "").await;
    let balancer = Balancer::new(world.client.clone(), "api").await.unwrap();
    for _ in 0..20 {
        let pick = balancer.pick().unwrap();
        match pick.name() == a.name() {
            true => pick.report(Outcome::ConnectFailed, None),
            false => pick.report(Outcome::Success, Some(secs(1))),
        }
    }
    world.until(&a.name(), "ejected", |seen| seen.state == State::Ejected).await;
    until_share(&balancer, &b.name(), 100).await;
}

/// A server of gRPC that says of itself whether it serves, by which it is known.
async fn server(status: ServingStatus) -> (SocketAddr, JoinHandle<()>) {
    let (reporter, service) = health_reporter();
    reporter.set_service_status("", status).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = serve(listener, move |stream| {
        let service = TowerToHyperService::new(service.clone());
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let key = request.headers().get(outrigger_sdk::AFFINITY_HEADER);
            assert!(key.is_none(), "a key is not the backends' business");
            service.call(request)
        });
        async move {
            let serving = http2::Builder::new(TokioExecutor::new());
            let _ = serving.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tonic_client_needs_no_hop() {
    let (yes, _yes) = server(ServingStatus::Serving).await;
    let (no, _no) = server(ServingStatus::NotServing).await;
    let world = World::start(&[yes, no], "").await;
    let balancer = Balancer::new(world.client.clone(), "api").await.unwrap();
    let mut client = HealthClient::new(balancer.channel());
    let mut answers = BTreeMap::new();
    for _ in 0..40 {
        let answer = client.check(HealthCheckRequest::default()).await.unwrap();
        *answers.entry(answer.into_inner().status).or_insert(0) += 1;
    }
    let said = |status: Status| answers[&i32::from(status)];
    assert!((18..=22).contains(&said(Status::Serving)), "{answers:?}");
    assert_eq!(said(Status::Serving) + said(Status::NotServing), 40);

    world.client.set_affinity("api", "k", Some(&no.to_string()), TTL).await.unwrap();
    let key = AffinityInterceptor::new("k").unwrap();
    let mut keyed = HealthClient::with_interceptor(balancer.channel(), key);
    for _ in 0..10 {
        let answer = keyed.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status(), Status::NotServing);
    }
    let labels = [("outcome", "success")];
    eventually("all are counted", secs(5), async || {
        (world.sidecar.metric("outrigger_outcomes_total", &labels).await == 50.0).then_some(())
    })
    .await;
}
