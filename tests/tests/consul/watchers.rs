//! What two hundred followed services ask of an agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_tests::backend::{Backend, full};
use outrigger_tests::client::{self, Client};
use outrigger_tests::consul::{Consul, service};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::json;
use tokio::time::{Instant, sleep};

const SERVICES: usize = 200;
const WAIT: u64 = 10;

/// Stands before an agent and counts what is asked of each service.
struct Counting {
    server: Backend,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Counting {
    async fn before(agent: SocketAddr) -> Self {
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let counts = Arc::clone(&asked);
        let server = Backend::answering(move |request: http::Request<Incoming>| {
            let path = request.uri().to_string();
            if let Some(name) = path.strip_prefix("/v1/health/service/") {
                let name = name.split('?').next().unwrap().to_owned();
                *counts.lock().unwrap().entry(name).or_default() += 1;
            }
            async move {
                let _ = request.into_body().collect().await;
                let asking = client::request("GET", &path, agent).body(Default::default());
                let mut agent = Client::connect(agent).await.unwrap();
                let answer = agent.send(asking.unwrap()).await.unwrap();
                let (head, body) = answer.into_parts();
                let mut reply = http::Response::builder().status(head.status);
                if let Some(index) = head.headers.get("x-consul-index") {
                    reply = reply.header("x-consul-index", index);
                }
                reply.body(full(body)).unwrap()
            }
        })
        .await;
        Self { server, asked }
    }

    /// How often each service was asked for since the last time, the most and in all.
    fn take(&self) -> (usize, usize) {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        (asked.values().copied().max().unwrap_or(0), asked.values().sum())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_watchers_ask_once_a_wait_and_once_a_second_under_churn() {
    let limits = json!({ "limits": { "http_max_conns_per_client": 1000 } });
    let consul = Arc::new(Consul::start_with(limits).await);
    let backend = Backend::start().await;
    for i in 0..SERVICES {
        let mut definition = service(backend.address, json!({}));
        (definition["Name"], definition["ID"]) = (format!("s{i}").into(), format!("s{i}").into());
        consul.put("/v1/agent/service/register", &definition).await;
    }
    let counting = Counting::before(consul.http).await;
    let clusters: String = (0..SERVICES)
        .map(|i| format!("[clusters.s{i}.discovery]\nsource = \"consul\"\nservice = \"s{i}\"\n"))
        .collect();
    let sidecar = Sidecar::ready(&format!(
        "[consul]\naddress = \"http://{}\"\nwait = \"{WAIT}s\"\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"s0\"\n{clusters}",
        counting.server.address
    ))
    .await;
    eventually("all are known", secs(20), || async {
        let (_, page) = sidecar.get("/api/v1/clusters").await;
        (page.matches("\"ready\"").count() == SERVICES).then_some(())
    })
    .await;

    counting.take();
    let cpu = sidecar.process.cpu();
    sleep(secs(2 * WAIT)).await;
    let (most, all) = counting.take();
    let spent = (sidecar.process.cpu() - cpu).div_duration_f64(secs(2 * WAIT)) * 100.0;
    println!("idle: at most {most} and {all} in all in two waits, {spent:.1} % of a core");
    // Each wait is one question, up to a sixteenth longer; two waits may touch three of them.
    assert!(most <= 3, "{most} questions in two waits");
    assert!(all <= SERVICES * 5 / 2, "{all} questions in two waits");

    // Some services change all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let churn = tokio::spawn({
        let (consul, stop, address) = (Arc::clone(&consul), Arc::clone(&stop), backend.address);
        async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                for i in 0..10 {
                    let weights = json!({ "Weights": { "Passing": round % 50 + 1, "Warning": 1 } });
                    let mut definition = service(address, weights);
                    (definition["Name"], definition["ID"]) =
                        (format!("s{i}").into(), format!("s{i}").into());
                    consul.put("/v1/agent/service/register", &definition).await;
                }
            }
            round
        }
    });
    sleep(secs(3)).await;
    counting.take();
    let since = Instant::now();
    sleep(secs(8)).await;
    let (most, _) = counting.take();
    let per_second = most as f64 / since.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let rounds = churn.await.unwrap();
    println!("churn: {rounds} changes of each, at most {per_second:.2} questions a second");
    assert!(per_second <= 1.2, "{per_second} questions a second");
}
