//! Clients as they come, and what they see.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use outrigger_tests::backend::{Backend, X_BACKEND, config, full};
use outrigger_tests::client::{Client, request};
use tokio::sync::Semaphore;

/// The cookie of the cluster `api`.
pub const COOKIE: &str = "LB_SESSION_api";
pub const BY_COOKIE: &str = "[clusters.api.affinity]\nby = \"cookie\"\n";
pub const RESULTS: [&str; 5] = ["hit", "new", "moved", "expired", "forged"];

pub async fn backends<const N: usize>() -> [Backend; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::start().await);
    }
    all.try_into().unwrap()
}

/// A backend that keeps requests with an `x-slow` until the gate lets one of them through.
pub async fn gated(gate: &Arc<Semaphore>) -> Backend {
    let gate = Arc::clone(gate);
    Backend::answering(move |request| {
        let gate = Arc::clone(&gate);
        async move {
            if request.headers().contains_key("x-slow") {
                gate.acquire().await.unwrap().forget();
            }
            Response::new(full("hello"))
        }
    })
    .await
}

/// A configuration before these backends, whose clients stay as `affinity` says.
pub fn sticky(backends: &[Backend], affinity: &str) -> String {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    config(&addresses, &format!("[clusters.api.affinity]\n{affinity}\n"))
}

/// An answer as far as affinity goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    pub status: u16,
    /// Who answered; empty for an answer of the sidecar's own.
    pub backend: String,
    /// Why the sidecar answered itself.
    pub error: String,
    /// All of the cookie that was set, with its attributes.
    pub set: Option<String>,
}

impl Visit {
    fn of(response: &Response<Bytes>) -> Self {
        let field = |name: &str| {
            let value = response.headers().get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
        assert!(cookies.len() <= 1, "{cookies:?}");
        Self {
            status: response.status().as_u16(),
            backend: field(X_BACKEND),
            error: field("x-outrigger-error"),
            set: cookies.first().map(|value| value.to_str().unwrap().to_owned()),
        }
    }

    /// The token that was set.
    pub fn token(&self) -> &str {
        token(self.set.as_deref().expect("a cookie is set"))
    }
}

/// The value of a cookie as it is set.
pub fn token(set: &str) -> &str {
    set.split(';').next().unwrap().split_once('=').unwrap().1
}

/// A client on a connection of its own, that says what it is told to say.
#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    connection: Client,
}

impl Caller {
    pub async fn new(address: SocketAddr) -> Self {
        Self { address, connection: Client::connect(address).await.unwrap() }
    }

    /// A GET with these fields.
    pub async fn get(&mut self, fields: &[(&str, &str)]) -> Visit {
        let request =
            fields.iter().fold(request("GET", "/", self.address), |request, (name, value)| {
                request.header(*name, *value)
            });
        let answer = self.connection.send(request.body(Full::default()).unwrap()).await;
        Visit::of(&answer.unwrap())
    }

    pub async fn with_cookie(&mut self, value: &str) -> Visit {
        self.get(&[("cookie", &format!("{COOKIE}={value}"))]).await
    }
}

/// A client that keeps its cookie, as browsers do.
#[derive(Debug)]
pub struct Browser {
    caller: Caller,
    pub cookie: Option<String>,
}

impl Browser {
    pub async fn new(address: SocketAddr) -> Self {
        Self { caller: Caller::new(address).await, cookie: None }
    }

    /// One that belongs to this backend.
    pub async fn of(address: SocketAddr, backend: &Backend) -> Self {
        for _ in 0..100 {
            let mut browser = Self::new(address).await;
            if browser.visit().await.backend == backend.name() {
                return browser;
            }
        }
        panic!("{} answers nobody", backend.name());
    }

    pub async fn visit(&mut self) -> Visit {
        let visit = match &self.cookie {
            Some(value) => self.caller.with_cookie(value).await,
            None => self.caller.get(&[]).await,
        };
        if let Some(set) = &visit.set {
            self.cookie = Some(token(set).to_owned());
        }
        visit
    }

    /// As many visits; all are answered by the same backend, and no cookie is set.
    pub async fn stays(&mut self, visits: usize) -> String {
        let first = self.visit().await;
        for _ in 1..visits {
            assert_eq!(self.visit().await, first);
        }
        assert_eq!((first.status, &first.set), (200, &None), "{first:?}");
        first.backend
    }

    /// The same client at another address, or over another connection.
    pub async fn goes_to(self, address: SocketAddr) -> Self {
        Self { caller: Caller::new(address).await, ..self }
    }
}
