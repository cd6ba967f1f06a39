//! Sockets for datagrams: what comes is read many at a time, and stays as it was sent.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{setsockopt, sockopt as option};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use tokio::io::unix::AsyncFd;

use super::readable::readable;

/// Room for datagrams that come while their reader does something else. The kernel gives what its own
/// limit allows.
const BUFFER: usize = 4 << 20;
/// Datagrams that are read at a time: so many that more save next to nothing, and so few that nobody
/// waits long behind them.
const BATCH: usize = 16;
/// More than any datagram has (65,507 bytes, or 65,527 over IPv6), so that none is ever cut off, and as
/// much as the kernel joins of those that came together.
pub const LARGEST: usize = 65_535;

/// A bound socket that is not yet part of any runtime.
#[derive(Debug)]
pub struct Socket(UdpSocket);

impl Socket {
    /// Binds `address`, for so many clients, each of which will have a socket of its own.
    pub fn bind(address: SocketAddr, clients: usize) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.bind(&address.into())?;
        reserve_descriptors(&socket, clients);
        Ok(Self(socket.into()))
    }

    /// The address it is bound to, with the port that the kernel chose for port 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The same socket once more.
    pub fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

/// Has the kernel make its table of our descriptors as large as it will be. Each time that it grows, the
/// thread that needs it is held up for tens of milliseconds while all processors are waited for, and it
/// would grow in the middle of a flood.
fn reserve_descriptors(socket: &impl AsFd, count: usize) {
    // Above the limit on open files there is nothing to reserve.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let last = (count as u64).min(limit.unwrap_or(u64::MAX).saturating_sub(1));
    if let Ok(last) = i32::try_from(last) {
        drop(rustix::io::fcntl_dupfd_cloexec(socket, last));
    }
}

/// A socket without connection to anybody: those who call it are served by one task.
#[derive(Debug)]
pub struct Server {
    socket: AsyncFd<OwnedFd>,
    state: UdpSocketState,
    /// Whether it is bound to all addresses: then an answer has to say which it comes from.
    wildcard: bool,
}

/// Somebody who calls a server.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: SocketAddr,
    /// Which address of ours was called, where that can differ: to leave from another one would make
    /// the answer a stranger's.
    called: Option<IpAddr>,
}

impl Server {
    /// Makes the socket part of the runtime of this thread.
    pub fn new(socket: Socket) -> io::Result<Self> {
        let socket = socket.0;
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket)?;
        Ok(Self { socket: readable(socket)?, state, wildcard })
    }

    /// Waits for datagrams.
    pub async fn recv(&self, batch: &mut Batch) -> io::Result<()> {
        loop {
            let mut socket = self.socket.readable().await?;
            match batch.fill(&self.state, socket.get_inner()) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                // There was room for more, so there is no more: saves asking in vain.
                _ if !batch.is_full() => socket.clear_ready(),
                _ => {}
            }
            if batch.count > 0 {
                return Ok(());
            }
        }
    }

    /// Sends one datagram, if there is room for it.
    pub fn send(&self, to: &Peer, payload: &[u8]) -> io::Result<()> {
        let Some(called) = to.called.filter(|_| self.wildcard) else {
            // Costs the kernel less than a message that may say more.
            rustix::net::sendto(&self.socket, payload, SendFlags::empty(), &to.address)?;
            return Ok(());
        };
        let transmit = Transmit {
            destination: to.address,
            ecn: None,
            contents: payload,
            segment_size: None,
            src_ip: Some(called),
        };
        self.state.try_send((&self.socket).into(), &transmit)
    }
}

/// Undoes what is of use only to whoever probes for the size of packets, as QUIC does: what is too
/// large for one goes in several, as from any other socket. Nor does anybody look at times of arrival.
fn allow_fragments(socket: &UdpSocket) -> io::Result<()> {
    sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::WANT)?;
    if socket.local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::WANT)?;
        setsockopt(socket, option::Ipv6DontFrag, &false)?;
    }
    setsockopt(socket, option::ReceiveTimestampns, &false)?;
    Ok(())
}

/// A socket that is connected to `address`: it hears nobody else, and is told when it is refused. In as
/// few system calls as there can be, since whoever floods a listener has one made for each datagram.
pub fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

/// Datagrams that were read together, and the memory that they are in, which is used again.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    metas: [RecvMeta; BATCH],
    count: usize,
}

impl Default for Batch {
    fn default() -> Self {
        let bytes = vec![0; BATCH * LARGEST].into_boxed_slice();
        Self { bytes, metas: [RecvMeta::default(); BATCH], count: 0 }
    }
}

impl Batch {
    fn fill(&mut self, state: &UdpSocketState, socket: &OwnedFd) -> io::Result<()> {
        let mut room = self.bytes.chunks_exact_mut(LARGEST);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(room.next().unwrap_or_default()));
        self.count = 0;
        self.count = state.recv(UdpSockRef::from(socket), &mut slices, &mut self.metas)?;
        Ok(())
    }

    /// Whether there may be more where these came from.
    pub fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// The datagrams, as they were sent, and by whom.
    pub fn iter(&self) -> impl Iterator<Item = (Peer, &[u8])> {
        let read = self.metas[..self.count].iter().zip(self.bytes.chunks_exact(LARGEST));
        read.flat_map(|(meta, bytes)| {
            let peer = Peer { address: meta.addr, called: meta.dst_ip };
            split(&bytes[..meta.len], meta.stride).map(move |datagram| (peer, datagram))
        })
    }
}

/// Takes apart what the kernel has joined: datagrams of one length, but for the last. Without bytes it
/// is still one.
fn split(bytes: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    bytes.is_empty().then_some(bytes).into_iter().chain(bytes.chunks(length.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_joined_is_taken_apart_again() {
        let parts = |bytes, length| split(bytes, length).collect::<Vec<_>>();
        assert_eq!(parts(b"abcabcx", 3), [&b"abc"[..], b"abc", b"x"]);
        assert_eq!(parts(b"abc", 3), [b"abc"]);
        assert_eq!(parts(b"", 0), [b""]);
    }
}
