//! Direct mode, over what a sidecar says and does.

use std::collections::BTreeMap;
use std::time::Duration;

use outrigger_proto::v1::control_service_client::ControlServiceClient;
use outrigger_proto::v1::{ListClustersRequest, ReportOutcomeRequest, WatchClusterResponse};
use outrigger_sdk::{AFFINITY_HEADER, Balancer, Outcome};
use tonic::{Code, Request};

use crate::eventually;
use crate::fake::{Asked, Sidecar, message};

async fn balancer(sidecar: &Sidecar, shares: &[(&str, u32)]) -> Balancer {
    sidecar.changes.send_replace(vec![message(1, true, shares)]);
    Balancer::new(sidecar.client(), "api").await.unwrap()
}

async fn until_version(balancer: &Balancer, version: u64) {
    eventually("the change has come", async || (balancer.view().version == version).then_some(()))
        .await;
}

fn picks(balancer: &Balancer, times: u32) -> BTreeMap<String, u32> {
    let mut picks = BTreeMap::new();
    for _ in 0..times {
        let name = balancer.pick().map(|pick| pick.name().to_owned()).unwrap_or_default();
        *picks.entry(name).or_default() += 1;
    }
    picks
}

#[tokio::test]
async fn picks_follow_the_shares_that_the_sidecar_says() {
    let sidecar = Sidecar::start();
    let balancer = balancer(&sidecar, &[("a", 3), ("b", 1), ("c", 0)]).await;
    let shares = picks(&balancer, 400);
    assert!((298..=302).contains(&shares["a"]) && shares["a"] + shares["b"] == 400, "{shares:?}");
    sidecar.changes.send_replace(vec![message(2, false, &[("a", 0), ("c", 2)])]);
    until_version(&balancer, 2).await;
    let shares = picks(&balancer, 300);
    assert!((198..=202).contains(&shares["c"]) && shares["b"] + shares["c"] == 300, "{shares:?}");
    sidecar.changes.send_replace(vec![message(3, false, &[("b", 0), ("c", 0)])]);
    until_version(&balancer, 3).await;
    assert!(balancer.pick().is_none());
    assert!(balancer.pick_for("k").await.is_none());
}

#[tokio::test]
async fn the_last_set_stays_until_a_new_sidecar_has_found_its_backends() {
    let mut sidecar = Sidecar::start();
    let balancer = balancer(&sidecar, &[("a", 1)]).await;
    sidecar.kill();
    let second = |version, shares: &[(&str, u32)]| WatchClusterResponse {
        instance: "second".into(),
        ..message(version, true, shares)
    };
    sidecar.changes.send_replace(vec![second(1, &[])]);
    assert_eq!(picks(&balancer, 2)["a"], 2);
    sidecar.start_again();
    eventually("it is watched again", async || {
        (sidecar.script.count(|asked| matches!(asked, Asked::Watch { .. })) == 2).then_some(())
    })
    .await;
    sidecar.changes.send_replace(vec![second(2, &[("b", 0)])]);
    assert_eq!(picks(&balancer, 2)["a"], 2);
    sidecar.changes.send_replace(vec![second(3, &[("b", 1)])]);
    until_version(&balancer, 3).await;
    assert_eq!(picks(&balancer, 2)["b"], 2);
}

#[tokio::test]
async fn a_key_goes_where_the_sidecar_says_also_when_that_is_away() {
    let mut sidecar = Sidecar::start();
    "b".clone_into(&mut sidecar.script.home.lock().unwrap());
    let balancer = balancer(&sidecar, &[("a", 1), ("b", 0)]).await;
    for _ in 0..50 {
        assert_eq!(balancer.pick_for("k").await.unwrap().name(), "b");
    }
    let asked = sidecar.script.count(|asked| matches!(asked, Asked::Affinity(_)));
    // As a rule once; more often on a machine that takes seconds for fifty picks.
    assert!((1..=5).contains(&asked), "{asked}");
    sidecar.kill();
    for _ in 0..50 {
        assert_eq!(balancer.pick_for("k").await.unwrap().name(), "b");
        assert_eq!(balancer.pick_for("other").await.unwrap().name(), "a");
    }
}

#[tokio::test]
async fn outcomes_are_told_together() {
    let sidecar = Sidecar::start();
    let balancer = balancer(&sidecar, &[("a", 1)]).await;
    for _ in 0..1500 {
        balancer.pick().unwrap().report(Outcome::Success, Some(Duration::from_millis(3)));
    }
    balancer.pick().unwrap().report(Outcome::Timeout, None);
    let reports = eventually("all are told", async || {
        let asked = sidecar.script.asked().into_iter();
        let reports = asked.filter_map(|asked| match asked {
            Asked::Report(report) => Some(report),
            _ => None,
        });
        let reports: Vec<ReportOutcomeRequest> = reports.collect();
        (reports.iter().map(|report| report.count).sum::<u32>() == 1501).then_some(reports)
    })
    .await;
    assert!(reports.len() <= 6 && reports.iter().all(|report| report.count <= 1000), "{reports:?}");
    for report in reports {
        assert_eq!((report.cluster.as_str(), report.backend.as_str()), ("api", "a"));
        let took = report.latency.map(|latency| latency.nanos);
        let expected = (report.outcome() == Outcome::Success).then_some(3_000_000);
        assert_eq!(took, expected);
    }
}

/// Two servers of gRPC are the backends of a third, which only says so.
#[tokio::test]
async fn calls_of_a_tonic_client_go_to_the_backends_themselves() {
    let (sidecar, a, mut b) = (Sidecar::start(), Sidecar::start(), Sidecar::start());
    let balancer = balancer(&sidecar, &[(&a.address(), 1), (&b.address(), 1)]).await;
    let mut calls = ControlServiceClient::new(balancer.channel());
    for _ in 0..10 {
        calls.list_clusters(ListClustersRequest::default()).await.unwrap();
    }
    let seen = |of: &Sidecar| of.script.count(|asked| *asked == Asked::List);
    assert!((4..=6).contains(&seen(&a)) && seen(&a) + seen(&b) == 10, "{} {}", seen(&a), seen(&b));

    *sidecar.script.home.lock().unwrap() = b.address();
    let before = seen(&b);
    for _ in 0..10 {
        let mut request = Request::new(ListClustersRequest::default());
        request.metadata_mut().insert(AFFINITY_HEADER, "k".parse().unwrap());
        calls.list_clusters(request).await.unwrap();
    }
    assert_eq!(seen(&b), before + 10);

    b.kill();
    let mut codes = BTreeMap::new();
    for _ in 0..10 {
        let answer = calls.list_clusters(ListClustersRequest::default()).await;
        *codes
            .entry(answer.map_or_else(|status| status.code(), |_| Code::Ok) as i32)
            .or_insert(0) += 1;
    }
    assert!((4..=6).contains(&codes[&(Code::Ok as i32)]), "{codes:?}");
    let failed = eventually("failures are told", async || {
        let asked = sidecar.script.asked().into_iter();
        let mut failed = asked.filter_map(|asked| match asked {
            Asked::Report(report) if report.outcome() == Outcome::ConnectFailed => {
                Some(report.backend)
            }
            _ => None,
        });
        failed.next_back()
    });
    assert_eq!(failed.await, b.address());
}
