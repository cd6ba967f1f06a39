//! A backend that says its name.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::cli::Failure;

/// Says which backend answered.
pub(super) const X_BACKEND: &str = "x-backend";

pub(super) struct Backend {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Backend {
    pub(super) async fn start(name: &str) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let value = HeaderValue::from_str(name).map_err(|e| Failure::Failed(e.to_string()))?;
        let body = Bytes::from(format!("hello from {name}, at {address}\n"));
        let task = tokio::spawn(serve(listener, value, body));
        Ok(Self { name: name.into(), address, task })
    }

    /// Closes its socket and every connection, whatever they are doing.
    pub(super) fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(listener: TcpListener, name: HeaderValue, body: Bytes) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (name, body) = (name.clone(), body.clone());
        let service = service_fn(move |_| {
            let mut response = Response::new(Full::new(body.clone()));
            response.headers_mut().insert(X_BACKEND, name.clone());
            async { Ok::<_, Infallible>(response) }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        while connections.try_join_next().is_some() {}
    }
}
