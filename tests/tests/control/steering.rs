//! Orders of apps: what is accepted of each, how long it holds, and that nothing is left of it.

use std::time::Duration;

use outrigger_proto::v1;
use outrigger_tests::control::Caller;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::config;

const BACKEND: &str = "10.0.0.1:1";

/// How long an order holds.
#[derive(Clone)]
enum For {
    Time(Duration),
    Lease(String),
}

/// An order of weight, of an app that calls itself `owner`.
fn weight(weight: u32, lasts: For, owner: &str) -> v1::SetWeightRequest {
    let lifetime = match lasts {
        For::Time(ttl) => v1::set_weight_request::Lifetime::Ttl(ttl.try_into().unwrap()),
        For::Lease(id) => v1::set_weight_request::Lifetime::LeaseId(id),
    };
    v1::SetWeightRequest {
        cluster: "api".into(),
        backend: BACKEND.into(),
        change: Some(v1::set_weight_request::Change::Weight(weight)),
        lifetime: Some(lifetime),
        owner: owner.into(),
    }
}

fn pin(key: &str, backend: &str, lease: &str) -> v1::SetAffinityRequest {
    v1::SetAffinityRequest {
        cluster: "api".into(),
        key: key.into(),
        backend: backend.into(),
        lifetime: Some(v1::set_affinity_request::Lifetime::LeaseId(lease.into())),
        owner: String::new(),
    }
}

fn drain(lease: &str) -> v1::DrainRequest {
    v1::DrainRequest {
        cluster: "api".into(),
        backend: "10.0.0.1:2".into(),
        lifetime: Some(v1::drain_request::Lifetime::LeaseId(lease.into())),
        ..Default::default()
    }
}

/// An open lease: it ends when this is dropped, or `requests` is.
struct Lease {
    id: String,
    _requests: mpsc::Sender<v1::OpenLeaseRequest>,
    answers: Streaming<v1::OpenLeaseResponse>,
}

async fn lease(caller: &Caller, owner: &str) -> Result<Lease, Status> {
    let (requests, mut said) = mpsc::channel(1);
    requests.send(v1::OpenLeaseRequest { owner: owner.into() }).await.unwrap();
    let said = futures_util::stream::poll_fn(move |context| said.poll_recv(context));
    let mut answers = caller.control().open_lease(said).await?.into_inner();
    let id = answers.message().await?.expect("it is opened").lease_id;
    Ok(Lease { id, _requests: requests, answers })
}

/// What is shown of the cluster, but for what counts up by itself.
async fn shown(sidecar: &Sidecar) -> Value {
    let mut cluster = sidecar.cluster("api").await;
    cluster["version"] = Value::Null;
    cluster
}

/// The field that a request is refused for.
fn field(status: &Status) -> (Code, String) {
    let violations =
        status.get_details_bad_request().expect("it says which field").field_violations;
    (status.code(), violations[0].field.clone())
}

/// However a lease ends, all that it held is exactly as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_left_of_a_lease_however_it_ends() {
    let sidecar = Sidecar::start(&config(3)).await;
    let before = shown(&sidecar).await;
    for how in ["its app says so", "its stream is reset", "its connection is gone"] {
        let caller = Caller::of(&sidecar).await;
        let held = lease(&caller, "deploy-7").await.unwrap();
        let mut control = caller.control();
        let answer = control.set_weight(weight(9, For::Lease(held.id.clone()), "")).await.unwrap();
        let backend = answer.into_inner().backend.unwrap();
        assert_eq!((backend.effective_weight, &*backend.orders[0].owner), (9.0, "deploy-7"));
        assert!(backend.orders[0].leased && backend.orders[0].expires_at.is_none());
        let answer = control.drain(drain(&held.id)).await.unwrap().into_inner();
        assert_eq!(answer.backend.unwrap().state(), v1::State::Draining);
        control.set_affinity(pin("k", "10.0.0.1:3", &held.id)).await.unwrap();
        let pinned = shown(&sidecar).await;
        assert_eq!(pinned["backends"][1]["state"], "draining", "{pinned}");

        let id = held.id.clone();
        let start = Instant::now();
        match how {
            "its app says so" => {
                let Lease { _requests, mut answers, .. } = held;
                drop(_requests);
                let end = timeout(secs(1), answers.message()).await.expect("it is answered");
                assert!(end.unwrap().is_none(), "it has ended well");
            }
            "its stream is reset" => drop(held),
            _ => drop((held, control, caller)),
        }
        eventually("all is as before", secs(1), || async {
            (shown(&sidecar).await == before).then_some(())
        })
        .await;
        println!("{how}: {:?}", start.elapsed());
        let mut control = Caller::of(&sidecar).await.control();
        let get = v1::GetAffinityRequest { cluster: "api".into(), key: "k".into() };
        let answer = control.get_affinity(get).await.unwrap().into_inner();
        assert_eq!((&*answer.pinned_to, answer.pin), ("", None));
        let late = control.set_weight(weight(2, For::Lease(id), "")).await.unwrap_err();
        assert_eq!(late.get_details_resource_info().unwrap().resource_type, "lease");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_ends_at_its_time() {
    let sidecar = Sidecar::start(&config(2)).await;
    let mut control = Caller::of(&sidecar).await.control();
    let before = shown(&sidecar).await;
    let start = Instant::now();
    control.set_weight(weight(9, For::Time(millis(700)), "app")).await.unwrap();
    eventually("it is over", secs(5), || async { (shown(&sidecar).await == before).then_some(()) })
        .await;
    let took = start.elapsed();
    assert!((millis(650)..millis(900)).contains(&took), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_gave_an_order_takes_it_back_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    let [steers, admin] =
        ["a-token-of-somebody-who-may-steer-", "a-token-of-somebody-who-may-do-all"];
    std::fs::write(&file, format!("steer {steers}\nadmin {admin}\n")).unwrap();
    let table = format!("[control]\nlisten = \"127.0.0.1:0\"\ntoken_file = {file:?}\n");
    let sidecar = Sidecar::start(&(config(1) + &table)).await;
    let caller = Caller::of(&sidecar).await;
    let mut control = caller.clone().with_token(steers).control();
    for (number, owner) in ["", "a", "b"].into_iter().enumerate() {
        let number = u32::try_from(number).unwrap() + 10;
        control.set_weight(weight(number, For::Time(secs(60)), owner)).await.unwrap();
    }
    let clear = |owner: &str, all| v1::ClearWeightRequest {
        cluster: "api".into(),
        backend: BACKEND.into(),
        owner: owner.into(),
        all,
        ..Default::default()
    };
    let now = |answer: tonic::Response<v1::ClearWeightResponse>| {
        let backend = answer.into_inner().backend.unwrap();
        let owners: Vec<_> = backend.orders.iter().map(|order| order.owner.clone()).collect();
        (backend.effective_weight, owners.join(" "))
    };
    let latest = now(control.clear_weight(clear("nobody", false)).await.unwrap());
    assert_eq!(latest, (12.0, "sdk a b".into()), "nobody has no order");
    assert_eq!(now(control.clear_weight(clear("b", false)).await.unwrap()), (11.0, "sdk a".into()));
    assert_eq!(now(control.clear_weight(clear("", false)).await.unwrap()), (11.0, "a".into()));
    let denied = control.clear_weight(clear("", true)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let mut control = caller.with_token(admin).control();
    assert_eq!(now(control.clear_weight(clear("", true)).await.unwrap()), (1.0, "".into()));
    // Whose order it was, and who was connected, is there to be read.
    let events = control.list_events(v1::ListEventsRequest::default()).await.unwrap().into_inner();
    let by_b = events.events.iter().find(|event| event.cause.contains("by order of b (127.0.0.1:"));
    assert!(by_b.is_some_and(|event| event.kind == "weight"), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_accepted_is_named_and_changes_nothing() {
    let sidecar = Sidecar::start(&config(2)).await;
    let caller = Caller::of(&sidecar).await;
    let mut control = caller.control();
    let before = sidecar.cluster("api").await;
    let good = || weight(1, For::Time(secs(60)), "app");
    let of = |name: &str| (Code::InvalidArgument, name.to_owned());
    let factor = v1::set_weight_request::Change::Factor;
    let ttl = |seconds| Some(v1::set_weight_request::Lifetime::Ttl(seconds));
    let wrong = [
        ("weight", weight(65_536, For::Time(secs(60)), "app")),
        ("weight", v1::SetWeightRequest { change: None, ..good() }),
        ("factor", v1::SetWeightRequest { change: Some(factor(1_000.5)), ..good() }),
        ("factor", v1::SetWeightRequest { change: Some(factor(-0.5)), ..good() }),
        ("factor", v1::SetWeightRequest { change: Some(factor(f64::NAN)), ..good() }),
        ("ttl", v1::SetWeightRequest { lifetime: None, ..good() }),
        ("ttl", v1::SetWeightRequest { lifetime: ttl(Default::default()), ..good() }),
        ("ttl", weight(1, For::Time(secs(86_401)), "app")),
        ("owner", weight(1, For::Time(secs(60)), "admin")),
        ("owner", weight(1, For::Time(secs(60)), "two words")),
        ("owner", weight(1, For::Time(secs(60)), &"x".repeat(1 << 20))),
    ];
    for (name, request) in wrong {
        let shortened = format!("{request:.200?}");
        let status = control.set_weight(request).await.expect_err(&shortened);
        assert_eq!(field(&status), of(name), "{shortened}");
    }
    for key in [String::new(), "k".repeat(257)] {
        let status = control.set_affinity(pin(&key, BACKEND, "")).await.unwrap_err();
        assert_eq!(field(&status), of("key"));
    }
    for owner in ["", "fleet", "ä"] {
        let status = lease(&caller, owner).await.map(|lease| lease.id).unwrap_err();
        assert_eq!(field(&status), of("owner"), "{owner:?}");
    }
    let missing = v1::SetWeightRequest { backend: "10.0.0.9:1".into(), ..good() };
    let status = control.set_weight(missing).await.unwrap_err();
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "10.0.0.9:1");
    let report = |outcome: v1::Outcome, count| v1::ReportOutcomeRequest {
        cluster: "api".into(),
        backend: BACKEND.into(),
        outcome: outcome.into(),
        count,
        latency: None,
    };
    for (name, request) in [
        ("outcome", report(v1::Outcome::Unspecified, 1)),
        ("count", report(v1::Outcome::Success, 1_001)),
    ] {
        assert_eq!(field(&control.report_outcome(request).await.unwrap_err()), of(name));
    }
    assert_eq!(sidecar.cluster("api").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn orders_of_one_backend_have_a_bound() {
    let sidecar = Sidecar::start(&config(1)).await;
    let mut control = Caller::of(&sidecar).await.control();
    for number in 0..64 {
        let owner = format!("app-{number}");
        control.set_weight(weight(number, For::Time(secs(60)), &owner)).await.unwrap();
    }
    let status = control.set_weight(weight(1, For::Time(secs(60)), "more")).await.unwrap_err();
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!((status.code(), &*violations[0].subject), (Code::ResourceExhausted, "orders"));
    let again = control.set_weight(weight(500, For::Time(secs(60)), "app-0")).await.unwrap();
    assert_eq!(again.into_inner().backend.unwrap().effective_weight, 500.0);
}

/// As many keys as may be, at the pace that callers may have; then one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pins_have_a_bound_and_go_with_their_lease() {
    const PINS: usize = 65_536;
    let sidecar = Sidecar::start(&config(2)).await;
    let caller = Caller::of(&sidecar).await;
    let held = lease(&caller, "app").await.unwrap();
    let set = |key: usize| {
        let (mut control, request) = (caller.control(), pin(&key.to_string(), BACKEND, &held.id));
        async move {
            loop {
                let status = match control.set_affinity(request.clone()).await {
                    Ok(_) => return,
                    Err(status) => status,
                };
                let retry = status.get_details_retry_info().unwrap_or_else(|| panic!("{status:?}"));
                tokio::time::sleep(retry.retry_delay.unwrap()).await;
            }
        }
    };
    use futures_util::StreamExt;
    let all = futures_util::stream::iter(0..PINS).map(set).buffer_unordered(64);
    timeout(secs(120), all.collect::<Vec<()>>()).await.expect("all are pinned");
    let mut control = caller.control();
    let list = |cluster: &str| v1::ListClustersRequest { cluster: cluster.into() };
    let pins =
        |list: v1::ListClustersResponse| (list.clusters[0].pins, list.clusters[0].backends[0].pins);
    let answer = control.list_clusters(list("api")).await.unwrap().into_inner();
    assert_eq!(pins(answer), (PINS as u32, PINS as u32));
    let full = async {
        loop {
            let status = control.set_affinity(pin("more", BACKEND, &held.id)).await.unwrap_err();
            match status.get_details_retry_info() {
                Some(retry) => tokio::time::sleep(retry.retry_delay.unwrap()).await,
                None => return status,
            }
        }
    };
    let status = full.await;
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!((status.code(), &*violations[0].subject), (Code::ResourceExhausted, "pins"));
    drop(held);
    eventually("they are gone", secs(2), || {
        let mut control = caller.control();
        async move {
            let answer = control.list_clusters(list("api")).await.unwrap().into_inner();
            (pins(answer) == (0, 0)).then_some(())
        }
    })
    .await;
}
