//! Connections of callers: TLS where there is any, HTTP/2, and the bounds on both.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::caller::Peer;
use super::{Control, Services};
use crate::net::listen::{Accepted, Socket};
use crate::net::tls::server::Server;

/// Connections at a time; more wait in the backlog.
const CONNECTIONS: usize = 1_024;
/// Calls of one connection at a time.
const STREAMS: u32 = 100;
/// Bytes of the fields of a request.
const FIELDS: u32 = 16 << 10;
/// What callers may send before it is read, of one call and in all.
const WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What waits for a caller who does not read, of one call.
const UNSENT: usize = 16 << 10;
/// A caller that has vanished is found out.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether a connection is of use. One that has made no call by then is told to
/// end, and ended at the next look.
const LOOK: Duration = Duration::from_secs(10);
/// One that has made none for so many looks, too: five minutes.
const IDLE_LOOKS: u32 = 30;
/// Resets that callers and mistakes of theirs may cause (CVE-2023-44487, CVE-2025-8671).
const RESETS: usize = 20;
const RESETS_BY_ERRORS: usize = 100;

/// What a caller connects to.
#[derive(Debug)]
pub struct Door {
    pub socket: Socket,
    /// `None`: in the clear.
    pub tls: Option<Arc<Server>>,
}

/// Serves the control API for as long as the sidecar runs.
pub async fn run(control: Arc<Control>, services: Arc<Services>, door: Arc<Door>) {
    let acceptor = match door.socket.share().and_then(Socket::into_acceptor) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "the control API cannot be served"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = acceptor.accept() => accepted,
            () = control.stopping() => return,
        };
        let (control, services) = (Arc::clone(&control), Arc::clone(&services));
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let _guard = control.connections.guard();
            serve(&control, services, accepted, door.tls.as_deref()).await;
            drop(permit);
        });
    }
}

async fn serve(
    control: &Control,
    services: Arc<Services>,
    accepted: Accepted,
    tls: Option<&Server>,
) {
    let Accepted { stream, peer: address } = accepted;
    let stream = match tls {
        None => stream,
        Some(server) => match server.handshake(stream).await {
            Ok((stream, _)) => stream,
            Err(error) => return tracing::debug!(?address, %error, "control: no TLS"),
        },
    };
    let (peer, calls) = (Arc::new(Peer::of(&stream, address)), Arc::new(Calls::default()));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |request| {
        let (services, peer, call) = (Arc::clone(&services), Arc::clone(&peer), counted.begin());
        async move { Ok::<_, Infallible>(services.answer(request, &peer, call).await) }
    });
    let mut connection = pin!(protocol().serve_connection(TokioIo::new(stream), service));
    let mut stopping = pin!(control.stopping());
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut ending, mut before, mut idle) = (false, 0, 0);
    loop {
        tokio::select! {
            // How it ended is the caller's affair.
            _ = &mut connection => return,
            () = &mut stopping, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                let begun = calls.begun.load(Ordering::Relaxed);
                let quiet = begun == before && calls.open.load(Ordering::Relaxed) == 0;
                (before, idle) = (begun, if quiet { idle + 1 } else { 0 });
                if quiet && ending {
                    return;
                }
                if begun == 0 || idle >= IDLE_LOOKS {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn protocol() -> http2::Builder<TokioExecutor> {
    let mut protocol = http2::Builder::new(TokioExecutor::new());
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(FIELDS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(UNSENT)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWERED_WITHIN)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS_BY_ERRORS);
    protocol
}

/// The calls of a connection.
#[derive(Debug, Default)]
struct Calls {
    begun: AtomicU32,
    open: AtomicU32,
}

/// One that is open.
#[derive(Debug)]
struct Call(Arc<Calls>);

impl Calls {
    fn begin(self: &Arc<Self>) -> Call {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(self))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
