//! Connections to backends, kept open between requests: one pool per worker.
//!
//! A pool is used by one thread only, so taking and giving back a connection is a push or a pop.
//! The newest connection is taken first: the others grow old and go, and a kept-alive connection
//! that was just used is the least likely to have been closed by the other side.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::cluster::{Backend, Snapshot};
use crate::net::dial;

/// A connection that nobody used for this long is closed: below the 60 s and more that servers
/// commonly wait, so that we are the side that closes.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept per backend and worker; more than a sidecar's app has in flight.
const MAX_IDLE: usize = 256;
/// A head of more bytes or fields than this is an error of the backend.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 100;

/// The idle connections of one worker to the backends of one cluster.
#[derive(Debug)]
pub struct Pool<B> {
    idle: RefCell<HashMap<u64, Vec<Idle<B>>>>,
}

#[derive(Debug)]
struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
}

/// An open HTTP/1.1 connection. Dropped, it is closed, whatever it is doing.
#[derive(Debug)]
pub struct Connection<B> {
    sender: SendRequest<B>,
    backend: u64,
    /// Whether it has carried a request before: then the backend may have closed it since.
    pub reused: bool,
    /// Held for its drop.
    _driver: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { idle: RefCell::default() }
    }
}

impl<B> Pool<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    /// The newest idle connection to the backend that is still open.
    pub fn take(&self, backend: u64) -> Option<Connection<B>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&backend)?;
        while let Some(Idle { connection, .. }) = connections.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes back a connection whose last answer has been read to its end.
    pub fn put(&self, mut connection: Connection<B>) {
        if connection.sender.is_closed() {
            return;
        }
        connection.reused = true;
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(connection.backend).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what was idle for too long, and everything to backends that have left.
    pub fn sweep(&self, members: &Snapshot, now: Instant) {
        self.idle.borrow_mut().retain(|backend, connections| {
            let fresh = |idle: &Idle<B>| {
                !idle.connection.sender.is_closed() && now.duration_since(idle.since) < IDLE
            };
            connections.retain(fresh);
            !connections.is_empty() && members.contains(*backend)
        });
    }
}

/// Opens a connection and drives it on this thread.
pub async fn connect<B>(
    backend: &Arc<Backend>,
    timeout: Option<Duration>,
) -> io::Result<Connection<B>>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let stream = dial::connect(&backend.endpoint.address, timeout).await?;
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let open = backend.connected();
    let driver = tokio::task::spawn_local(async move {
        // How it ends is told to whoever waits for an answer on it.
        let _ = connection.await;
        drop(open);
    });
    let driver = AbortOnDrop(driver.abort_handle());
    Ok(Connection { sender, backend: backend.id, reused: false, _driver: driver })
}

impl<B> Connection<B>
where
    B: Body + 'static,
{
    /// Sends a request and waits for the head of its answer. A request that was never written
    /// comes back with the error.
    pub async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        // A connection that has just been given back may have its last read to finish. Should
        // it have closed instead, sending says so and gives the request back.
        let _ = self.sender.ready().await;
        self.sender.try_send_request(request).await
    }
}
