//! The admin API: HTTP for operators, the command line and Prometheus.
//!
//! It reads snapshots and measurements, sends orders to the tasks of clusters, and runs on the
//! control thread, away from the traffic.

pub mod affinity;
mod auth;
pub mod clusters;
pub mod events;
pub mod explain;
mod fleet;
pub mod orders;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use orders::OrderPath;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::cluster::{Cluster, FleetWrite, History};
use crate::net::Address;
use crate::net::listen::Socket;
use crate::readiness::Readiness;
use crate::shutdown::Phase;
use crate::telemetry::metrics::Metrics;

/// Connections served at a time.
const CONNECTIONS: usize = 64;
/// How long a client may take for the head of a request, and a connection in all.
const HEAD: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(300);

/// What the admin API shows.
#[derive(Debug)]
pub struct Admin {
    pub clusters: Vec<Arc<Cluster>>,
    pub history: Arc<History>,
    /// Takes orders for the whole fleet; `None` where they cannot be written.
    pub fleet: Option<mpsc::Sender<FleetWrite>>,
    pub metrics: Arc<Metrics>,
    pub phase: watch::Receiver<Phase>,
    pub readiness: Arc<Readiness>,
    /// What the socket is bound to.
    pub address: Address,
}

type Reply = Response<Full<Bytes>>;

/// Serves the admin API for as long as the sidecar runs.
pub async fn run(admin: Arc<Admin>, socket: Arc<Socket>) {
    let acceptor = match socket.share().and_then(Socket::into_acceptor) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "the admin API cannot be served"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let stream = acceptor.accept().await.stream;
        let admin = Arc::clone(&admin);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&admin), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(64 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // How it ended is the client's affair.
            let _ = tokio::time::timeout(WHOLE, connection).await;
            drop(permit);
        });
    }
}

async fn answer(admin: Arc<Admin>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let path = request.uri().path();
    if let Err(why) = auth::check(&admin.address, path, request.headers()) {
        return Ok(error(StatusCode::FORBIDDEN, "forbidden", why));
    }
    let Some(page) = Page::at(path) else {
        return Ok(error(StatusCode::NOT_FOUND, "not_found", "there is no such page"));
    };
    if !page.takes(request.method()) {
        return Ok(page.not_allowed());
    }
    Ok(page.show(&admin, request).await)
}

enum Page {
    Livez,
    Readyz,
    Metrics,
    Clusters,
    Events,
    Explain,
    Affinity(String),
    Order(OrderPath),
}

impl Page {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/livez" => Some(Self::Livez),
            "/readyz" => Some(Self::Readyz),
            "/metrics" => Some(Self::Metrics),
            "/api/v1/clusters" => Some(Self::Clusters),
            "/api/v1/events" => Some(Self::Events),
            "/api/v1/explain" => Some(Self::Explain),
            path => affinity::path(path)
                .map(Self::Affinity)
                .or_else(|| OrderPath::parse(path).map(Self::Order)),
        }
    }

    fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Order(_) | Self::Affinity(_) => method == Method::POST,
            _ => matches!(*method, Method::GET | Method::HEAD),
        }
    }

    fn not_allowed(&self) -> Reply {
        let allowed = if self.takes(&Method::POST) { "POST" } else { "GET, HEAD" };
        let message = format!("this page takes {allowed}");
        let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        reply
    }

    async fn show(self, admin: &Arc<Admin>, request: Request<Incoming>) -> Reply {
        match self {
            Self::Livez => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into()),
            Self::Readyz => readyz(&admin.readiness),
            Self::Metrics => metrics(admin).await,
            Self::Clusters => json(StatusCode::OK, &clusters::view(&admin.clusters)),
            Self::Events => events::show(admin, request.uri().query().unwrap_or_default()).await,
            Self::Explain => explain::show(admin, request.uri().query().unwrap_or_default()),
            Self::Order(_) | Self::Affinity(_) => match auth::check_order(request.headers()) {
                Ok(()) => self.change(admin, request.into_body()).await,
                Err(why) => error(StatusCode::FORBIDDEN, "forbidden", why),
            },
        }
    }
}

impl Page {
    async fn change(self, admin: &Admin, body: Incoming) -> Reply {
        match self {
            Self::Affinity(cluster) => affinity::carry_out(admin, &cluster, body).await,
            Self::Order(order) => order.carry_out(admin, body).await,
            _ => self.not_allowed(),
        }
    }
}

fn readyz(readiness: &Readiness) -> Reply {
    let reasons = readiness.reasons();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let details = readiness.details();
    json(status, &json!({ "ready": reasons.is_empty(), "reasons": reasons, "details": details }))
}

async fn metrics(admin: &Arc<Admin>) -> Reply {
    let admin = Arc::clone(admin);
    // Rendering takes long enough with many backends to hold up what else this thread does.
    let rendered = tokio::task::spawn_blocking(move || {
        admin.clusters.iter().for_each(|cluster| cluster.report());
        let rows: Vec<_> = admin.clusters.iter().flat_map(|cluster| cluster.rows()).collect();
        admin.metrics.render(&rows)
    });
    match rendered.await {
        Ok(page) => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "rendering failed"),
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::from(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    match serde_json::to_string_pretty(value) {
        Ok(body) => text(status, "application/json", body + "\n"),
        Err(e) => error(StatusCode::INTERNAL_SERVER_ERROR, "internal", &e.to_string()),
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = json!({ "error": { "code": code, "message": message } });
    text(status, "application/json", format!("{body}\n"))
}
