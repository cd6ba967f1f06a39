//! Connections to backends, kept open between requests: one pool per worker.
//!
//! A pool is used by one thread only, so taking and giving back a connection is a push or a pop.
//! The newest connection is taken first: the others grow old and go, and a kept-alive connection
//! that was just used is the least likely to have been closed by the other side.

mod work;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{Cluster, ConnectionGuard, Snapshot};
use crate::net::dial::{self, Opening, Patience};
use crate::net::wire::Wire;

pub use work::{Signal, TICK, Work, Works};

/// A connection that nobody used for this long is closed: below the 60 s and more that servers
/// commonly wait, so that we are the side that closes.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept per backend and worker; more than a sidecar's app has in flight.
const MAX_IDLE: usize = 256;

/// The idle connections of one worker to the backends of one cluster.
#[derive(Debug, Default)]
pub struct Pool {
    /// By backend: there are few, so that looking one up is cheaper than a hash.
    idle: RefCell<BTreeMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

/// An open connection. Dropped, it is closed, whatever it is doing.
#[derive(Debug)]
pub struct Connection {
    pub wire: Wire,
    /// Whether it has carried a request before: then the backend may have closed it since.
    pub reused: bool,
    /// `None`: it is left as the kernel makes it.
    patience: Option<Patience>,
    backend: u64,
    _open: ConnectionGuard,
}

/// What a request goes over: a connection that was kept, or one that may be opened.
#[derive(Debug)]
pub enum Seat {
    Kept(Box<Connection>),
    Free(ConnectionGuard),
}

impl Seat {
    /// The connection, opened as this cluster wants it. `header`: what a new one begins with. Without
    /// `patience` a new one is left as the kernel makes it, until [`Connection::set_patience`].
    pub async fn connect(
        self,
        cluster: &Cluster,
        patience: Option<Patience>,
        header: &[u8],
    ) -> io::Result<Box<Connection>> {
        match self {
            Self::Kept(connection) => Ok(connection),
            Self::Free(open) => Connection::open(open, cluster, patience, header).await,
        }
    }
}

impl Connection {
    /// Boxed, because each request moves it several times.
    async fn open(
        open: ConnectionGuard,
        cluster: &Cluster,
        patience: Option<Patience>,
        header: &[u8],
    ) -> io::Result<Box<Self>> {
        let backend = open.backend();
        let host = cluster.settings.host.of(&backend.host);
        let opening = Opening {
            timeout: cluster.settings.timeouts.connect,
            patience,
            header,
            tls: cluster.tls.as_deref().map(|client| (client, host.to_str().unwrap_or_default())),
        };
        let stream = dial::open(&backend.endpoint.address, opening).await?;
        Ok(Box::new(Self {
            wire: Wire::new(stream),
            reused: false,
            patience,
            backend: open.backend().id,
            _open: open,
        }))
    }

    /// Whether it is as the kernel has made it still: then small pieces wait for one another, and nobody
    /// notices when the backend's machine vanishes.
    pub fn is_raw(&self) -> bool {
        self.patience.is_none()
    }

    /// How long the backend's machine may be silent from now on. A system call only where that
    /// changes; where it fails the connection is broken, which the next read tells.
    pub fn set_patience(&mut self, patience: Patience) {
        let stream = &self.wire.stream;
        let _ = match self.patience.replace(patience) {
            Some(before) if before == patience => Ok(()),
            Some(_) => stream.set_patience(patience),
            None => stream.watch(patience),
        };
    }

    /// The id of its backend.
    pub fn backend(&self) -> u64 {
        self.backend
    }

    /// Whether the backend has neither closed it nor said anything unasked.
    fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.wire.input.is_empty() && self.wire.poll_fill(&mut cx).is_pending()
    }
}

impl Pool {
    /// The newest idle connection to the backend that is still good.
    pub fn take(&self, backend: u64) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(&backend)?;
        while let Some(Idle { mut connection, .. }) = connections.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Whether there are idle connections to the backend.
    pub fn has(&self, backend: u64) -> bool {
        self.idle.borrow().get(&backend).is_some_and(|connections| !connections.is_empty())
    }

    /// Takes back a connection whose last answer has been read to its end.
    pub fn put(&self, mut connection: Box<Connection>) {
        connection.reused = true;
        connection.set_patience(Patience::Short);
        connection.wire.shrink();
        let mut idle = self.idle.borrow_mut();
        let connections = idle.entry(connection.backend).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes everything.
    pub fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes what was idle for too long, what the other side has closed, and everything to
    /// backends that leave or have left.
    pub fn sweep(&self, members: &Snapshot, now: Instant) {
        self.idle.borrow_mut().retain(|backend, connections| {
            connections.retain_mut(|idle| {
                now.duration_since(idle.since) < IDLE && idle.connection.is_quiet()
            });
            !connections.is_empty() && members.keeps(*backend)
        });
    }
}
