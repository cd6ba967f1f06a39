//! One client's session.

use std::io;
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Waker};

use rustix::io::Errno;
use tokio::time::Instant;

use super::site::{Record, Site};
use crate::cluster::{Key, NoPick, Wish};
use crate::net::udp::{self, Peer, Server};
use crate::net::{Address, crowd::Crowd};
use crate::telemetry::metrics::{Dropped, End, Outcome};
use crate::upstream::{Seat, Signal, Work};

#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Peer,
    /// When anything of it last passed.
    pub(super) used: Instant,
    pub(super) record: Record,
    replies: u32,
    upstream: Upstream,
}

#[derive(Debug)]
enum Upstream {
    Connected(Connected),
    /// The backend with this id has refused: the next datagram goes to another.
    Refused(u64),
}

/// The backend of a session, and the socket by which it is known there: whatever arrives at it is for
/// the session's client.
#[derive(Debug)]
pub(super) struct Connected {
    socket: UdpSocket,
    work: Work,
    answered: bool,
    _seat: Seat,
}

impl Session {
    pub(super) fn new(
        client: Peer,
        mut record: Record,
        connected: Connected,
        now: Instant,
    ) -> Self {
        record.backend = Some(Arc::clone(&connected.work.pick.backend.name));
        let upstream = Upstream::Connected(connected);
        Self { client, used: now, record, replies: 0, upstream }
    }

    /// Sends a datagram of the client's to the backend, and to another if that has refused.
    pub(super) fn forward(
        &mut self,
        site: &Site,
        crowd: &Crowd,
        number: usize,
        datagram: &[u8],
    ) -> Result<(), Undelivered> {
        if let Upstream::Connected(backend) = &self.upstream {
            match backend.socket.send(datagram) {
                Err(error) if is_refusal(&error) => self.refused(),
                sent => {
                    let sent = sent.map_err(|error| Undelivered::Dropped(why(&error)))?;
                    self.record.moved.to_backend += sent as u64;
                    return Ok(());
                }
            }
        }
        let Upstream::Refused(backend) = self.upstream else { return Ok(()) };
        let other = connect(site, self.client, Some(backend)).map_err(Undelivered::Ended)?;
        other.join(crowd, number).map_err(Undelivered::Ended)?;
        let sent = other.socket.send(datagram);
        self.record.backend = Some(Arc::clone(&other.work.pick.backend.name));
        self.upstream = Upstream::Connected(other);
        let sent = sent.map_err(|error| {
            if is_refusal(&error) {
                self.refused();
            }
            Undelivered::Dropped(why(&error))
        })?;
        self.record.moved.to_backend += sent as u64;
        Ok(())
    }

    /// Sends the next reply of the backend's to the client. Breaks when there is none, or with the reason
    /// why it was the last.
    pub(super) fn reply(
        &mut self,
        site: &Site,
        server: &Server,
        buffer: &mut [u8],
    ) -> ControlFlow<Option<End>> {
        let Upstream::Connected(backend) = &mut self.upstream else {
            return ControlFlow::Break(None);
        };
        match backend.socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return ControlFlow::Break(None);
            }
            Err(error) if is_refusal(&error) => self.refused(),
            // It is about what was sent, and told once.
            Err(_) => {}
            Ok(length) => {
                backend.answered();
                let passed = pass(site, server, &self.client, &buffer[..length]);
                self.record.moved.from_backend += passed;
                self.replies = self.replies.saturating_add(1);
                if site.settings.max_replies.is_some_and(|most| self.replies >= most) {
                    return ControlFlow::Break(Some(End::Replies));
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Has it called once more, for what is left to be read.
    pub(super) fn call_again(&self, crowd: &Crowd, number: usize) {
        let Upstream::Connected(backend) = &self.upstream else { return };
        if let Err(error) = crowd.again(&backend.socket, number) {
            tracing::debug!(%error, "a session is not called until its backend says more");
        }
    }

    /// Whether it is to end now, done or not.
    pub(super) fn is_cut(&self) -> bool {
        let Upstream::Connected(backend) = &self.upstream else { return false };
        let mut cx = Context::from_waker(Waker::noop());
        backend.work.poll(&mut cx) == std::task::Poll::Ready(Signal::Cut)
    }

    /// What was sent there before was in vain, and nothing more is sent.
    fn refused(&mut self) {
        if let Upstream::Connected(backend) = &mut self.upstream {
            let pick = &mut backend.work.pick;
            tracing::debug!(backend = %pick.backend.name, "a backend has refused datagrams");
            pick.outcome(Outcome::ConnectFailed);
            self.upstream = Upstream::Refused(pick.backend.id);
        }
    }
}

/// What became of a datagram that was not sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Undelivered {
    Dropped(Dropped),
    /// There is no backend for its session any more.
    Ended(End),
}

/// Picks a backend, another than the one that `refused` if there is another, and connects to it.
pub(super) fn connect(site: &Site, client: Peer, refused: Option<u64>) -> Result<Connected, End> {
    let cluster = &site.cluster;
    let key = cluster.client_key(None, Some(client.address.ip().to_canonical()));
    let pick = |tried: &[u64]| {
        let wish = Wish { key, tried, replayable: true, now: Instant::now() };
        cluster.pick(wish, true)
    };
    let (mut work, seat) = match pick(refused.as_slice()) {
        // Who has refused may be back.
        Err(NoPick::NoEligibleBackend) if refused.is_some() => pick(&[])?,
        found => found?,
    };
    let Some(socket) = open(&work.pick.backend.endpoint.address) else {
        work.pick.outcome(Outcome::Unused);
        return Err(End::Overflow);
    };
    // Silence is no sign of anything in UDP: nothing is waited for.
    work.pick.sent(false);
    work.pick.outcome(Outcome::Success);
    if key != Key::None {
        cluster.metrics().affinity(cluster.settle(key, &work.pick)).increment(1);
    }
    Ok(Connected { socket, work, answered: false, _seat: seat })
}

/// A socket, unless there are too many, or no way there from here: neither is the backend's fault.
fn open(address: &Address) -> Option<UdpSocket> {
    let Address::Tcp(address) = address else { return None };
    let connected = udp::connect(*address);
    connected.inspect_err(|error| tracing::debug!(%address, %error, "no socket for a session")).ok()
}

impl Connected {
    /// Has the session called by its number when the backend says something.
    pub(super) fn join(&self, crowd: &Crowd, number: usize) -> Result<(), End> {
        crowd.add(&self.socket, number).map_err(|error| {
            tracing::debug!(%error, "no place in the queue for a session");
            End::Overflow
        })
    }

    /// The first answer says how fast the backend is, and that it is there.
    fn answered(&mut self) {
        if !std::mem::replace(&mut self.answered, true) {
            self.work.pick.answered(false, None);
        }
    }
}

/// Sends a datagram to the client; the value is how many bytes have gone.
fn pass(site: &Site, server: &Server, client: &Peer, datagram: &[u8]) -> u64 {
    match server.send(client, datagram) {
        Ok(()) => {
            let length = datagram.len() as u64;
            site.udp.from_backend.increment(1);
            site.cluster.metrics().bytes_from_backend.increment(length);
            length
        }
        Err(error) => {
            site.udp.dropped(why(&error)).increment(1);
            0
        }
    }
}

/// Whether a datagram that was sent before did not arrive: nobody is bound to the port, or nothing is
/// known of the machine.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

fn why(error: &io::Error) -> Dropped {
    match Errno::from_io_error(error) {
        Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Dropped::SocketFull,
        _ if is_refusal(error) => Dropped::Refused,
        _ => Dropped::Error,
    }
}
