//! What speaks like Consul, and says what the test wants: for faults that a real one won't give.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backend::{Backend, Body, full};
use crate::{millis, secs};

/// What is said of the service `api`.
#[derive(Debug, Clone)]
pub enum Say {
    /// A blocking query waits until something else is to be said.
    Truth(Vec<Value>),
    /// At once, with these headers: every question, however it waits.
    AtOnce { status: u16, headers: Vec<(&'static str, String)>, body: Bytes },
    /// Nothing, ever.
    Silence,
}

/// The fake, and what it was asked.
#[derive(Debug)]
pub struct FakeConsul {
    server: Backend,
    said: watch::Sender<(u64, Say)>,
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl FakeConsul {
    pub async fn start(say: Say) -> Self {
        let (said, saying) = watch::channel((10, say));
        let asked = Arc::<Mutex<Vec<(Instant, String)>>>::default();
        let heard = Arc::clone(&asked);
        let server = Backend::answering(move |request: http::Request<Incoming>| {
            let path = request.uri().to_string();
            let token = request.headers().get("x-consul-token").cloned();
            let note =
                format!("{path} {}", token.map_or("-".into(), |t| t.to_str().unwrap().to_owned()));
            let saying = saying.clone();
            let heard = Arc::clone(&heard);
            async move {
                let _ = request.into_body().collect().await;
                if path.starts_with("/v1/kv/") {
                    // No orders, and none to come.
                    tokio::time::sleep(secs(if path.contains("index=") { 600 } else { 0 })).await;
                    return reply(404, &[("x-consul-index", "1".into())], Bytes::new());
                }
                heard.lock().unwrap().push((Instant::now(), note));
                answer(&path, saying).await
            }
        })
        .await;
        Self { server, said, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// From now on. Whoever waits is told, with a higher index.
    pub fn say(&self, say: Say) {
        self.said.send_modify(|(index, said)| {
            *index += 1;
            *said = say;
        });
    }

    /// The index goes back to this.
    pub fn say_at(&self, index: u64, say: Say) {
        self.said.send_replace((index, say));
    }

    /// What was asked about the service since then: paths with their queries, and tokens.
    pub fn asked_since(&self, since: Instant) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(at, _)| *at >= since).map(|(_, path)| path.clone()).collect()
    }
}

async fn answer(path: &str, mut saying: watch::Receiver<(u64, Say)>) -> Response<Body> {
    let parameter = |key: &str| {
        let (_, rest) = path.split_once(&format!("{key}="))?;
        rest.split('&').next()?.trim_end_matches("ms").parse::<u64>().ok()
    };
    let (index, wait) = (parameter("index").unwrap_or(0), parameter("wait").unwrap_or(0));
    let deadline = Instant::now() + millis(wait);
    loop {
        let (current, say) = saying.borrow_and_update().clone();
        match say {
            Say::Silence => std::future::pending().await,
            Say::AtOnce { status, headers, body } => return reply(status, &headers, body),
            Say::Truth(list) => {
                if index != current || Instant::now() >= deadline {
                    let headers = [
                        ("x-consul-index", current.to_string()),
                        ("x-consul-knownleader", "true".into()),
                    ];
                    return reply(200, &headers, json!(list).to_string().into());
                }
                let _ = tokio::time::timeout_at(deadline, saying.changed()).await;
            }
        }
    }
}

fn reply(status: u16, headers: &[(&'static str, String)], body: Bytes) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    match body.is_empty() {
        true => response.body(full(Bytes::new())).unwrap(),
        false => response.body(Full::new(body).boxed()).unwrap(),
    }
}

/// An instance, as Consul lists it.
pub fn instance(backend: SocketAddr, status: &str) -> Value {
    json!({
        "Node": { "Node": "n1", "Address": "127.0.0.1" },
        "Service": {
            "ID": backend.to_string(), "Service": "api", "Tags": [], "Port": backend.port(),
            "Address": backend.ip().to_string(), "Weights": { "Passing": 1, "Warning": 1 },
        },
        "Checks": [{ "CheckID": "c", "Status": status }],
    })
}
