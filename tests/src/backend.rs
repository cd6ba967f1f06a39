//! Backends that run in the test's own process, and do what the test says.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::raw::Raw;
use crate::secs;

pub type Body = BoxBody<Bytes, Infallible>;

/// Says which backend answered.
pub const X_BACKEND: &str = "x-backend";

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A server that ends with its task.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    hits: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Answers every request with 200 and its own address.
    pub async fn start() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        Self::serving(address, |_| async { Response::new(full("hello\n")) }).await
    }

    /// Answers with what `answer` makes of the request.
    pub async fn answering<F, T>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::serving((Ipv4Addr::LOCALHOST, 0).into(), answer).await
    }

    /// As `answering`, at this address.
    pub async fn serving<F, T>(address: SocketAddr, answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hits = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&hits);
        let task = serve(listener, move |stream| {
            let (answer, hits) = (answer.clone(), Arc::clone(&counted));
            async move {
                let service = service_fn(move |request| {
                    hits.fetch_add(1, Ordering::Relaxed);
                    let answering = answer(request);
                    async move {
                        let mut response = answering.await;
                        let name = address.to_string().parse().unwrap();
                        response.headers_mut().insert(X_BACKEND, name);
                        Ok::<_, Infallible>(response)
                    }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { address, hits, task }
    }

    /// Its name in the sidecar.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Requests so far.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// Closes its socket and all connections at once.
    pub fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server that speaks bytes, for what no HTTP server would say, and keeps what it hears.
#[derive(Debug)]
pub struct RawBackend {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl RawBackend {
    /// On every connection: whenever `until` is read, sends `answer`; then closes the
    /// connection, if so told.
    pub async fn answering(until: &'static [u8], answer: &'static [u8], close: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let all = Arc::clone(&connections);
        let task = serve(listener, move |stream| {
            let index = {
                let mut all = all.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            speak(stream, Arc::clone(&all), index, until, answer, close)
        });
        Self { address, connections, task }
    }

    /// What was received, by connection.
    pub fn received(&self) -> Vec<String> {
        let connections = self.connections.lock().unwrap();
        connections.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn speak(
    mut stream: TcpStream,
    all: Arc<Mutex<Vec<Vec<u8>>>>,
    index: usize,
    until: &'static [u8],
    answer: &'static [u8],
    close: bool,
) {
    let mut since_answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        all.lock().unwrap()[index].extend_from_slice(&buffer[..read]);
        since_answer.extend_from_slice(&buffer[..read]);
        let end = |bytes: &[u8]| match until.len() {
            0 => Some(bytes.len()),
            length => bytes.windows(length).position(|w| w == until).map(|at| at + length),
        };
        while let Some(end) = end(&since_answer).filter(|_| !since_answer.is_empty()) {
            since_answer.drain(..end);
            if stream.write_all(answer).await.is_err() || close {
                return;
            }
        }
    }
}

/// A server that the test plays itself, one connection at a time.
#[derive(Debug)]
pub struct ByHand {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl ByHand {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener }
    }

    /// The next connection.
    pub async fn accept(&self) -> Raw {
        let accepted = timeout(secs(5), self.listener.accept()).await;
        let (stream, _) = accepted.expect("somebody connects").unwrap();
        stream.set_nodelay(true).unwrap();
        stream.into()
    }
}

/// Runs `connection` for each connection, until the task is aborted.
pub fn serve<F, T>(listener: TcpListener, connection: F) -> JoinHandle<()>
where
    F: Fn(TcpStream) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        // Dropped with this task, and with it every connection.
        let mut connections = JoinSet::new();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(stream));
            }
            while connections.try_join_next().is_some() {}
        }
    })
}

/// A port on 127.0.0.1 that nobody listens on, nor has for datagrams.
pub fn unused_port() -> SocketAddr {
    loop {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if std::net::UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// The endpoints of a `static` source, one for each address.
pub fn endpoints(addresses: &[SocketAddr]) -> String {
    let endpoint = |address: &SocketAddr| format!("{{ address = \"{address}\" }}");
    addresses.iter().map(endpoint).collect::<Vec<_>>().join(", ")
}

/// A configuration with one listener `web` before one cluster `api` of these backends; `extra`
/// goes into the cluster's own table.
pub fn config(addresses: &[SocketAddr], extra: &str) -> String {
    format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api]\n{extra}\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{}]\n",
        endpoints(addresses)
    )
}
