//! What stands between a connection that was accepted and what is spoken on it: who the client is,
//! whether it may have another connection, and TLS.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::net::dial::Stream;
use crate::net::listen::{Accepted, canonical};
use crate::net::proxy_protocol::{self, AFFINITY, Header, Malformed, Transport};
use crate::net::tls::hello::Hello;
use crate::net::tls::server::Server;

/// Whoever has to say on whose behalf it connects does so within this.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is looked at ahead: the longest header of a proxy that says nothing but addresses.
const AHEAD: usize = 256;

/// The way into a listener.
#[derive(Debug)]
pub struct Door {
    /// From whom each connection has to begin with a header of the PROXY protocol; `None`: nobody
    /// sends one.
    pub announced: Option<Vec<IpNet>>,
    /// `None`: in the clear.
    pub tls: Option<Arc<Server>>,
    /// `None`: a client may have as many connections as it likes.
    pub sources: Option<Arc<PerSource>>,
}

/// A connection that may be served.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// `None`: nobody knows.
    pub(super) client: Option<SocketAddr>,
    /// Where the client has connected to.
    pub(super) destination: Option<SocketAddr>,
    /// The key that it says it belongs to.
    pub(super) key: Option<Box<[u8]>>,
    /// What it asked for, where TLS ends here.
    pub(super) hello: Option<Hello>,
}

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0} is in none of trusted_cidrs")]
    Untrusted(IpAddr),
    #[error(transparent)]
    Header(#[from] Malformed),
    #[error("the PROXY header is for datagrams")]
    Datagram,
    #[error("no PROXY header: {0}")]
    Silence(io::Error),
    #[error("{0} has as many connections as it may have")]
    TooMany(IpAddr),
    #[error("TLS: {0}")]
    Tls(io::Error),
}

impl Door {
    /// Lets a connection in, counted for as long as the second value lives.
    pub(super) async fn enter(
        &self,
        accepted: Accepted,
    ) -> Result<(Arrival, Option<Counted>), Refusal> {
        let Accepted { mut stream, peer } = accepted;
        let entered = self.pass(&mut stream, peer).await;
        let (Said { client, destination, key }, counted) =
            entered.inspect_err(|_| stream.reset_on_close())?;
        let (stream, hello) = match &self.tls {
            Some(server) => {
                let (stream, hello) = server.handshake(stream).await.map_err(Refusal::Tls)?;
                (stream, Some(hello))
            }
            None => (stream, None),
        };
        Ok((Arrival { stream, client, destination, key, hello }, counted))
    }

    async fn pass(
        &self,
        stream: &mut Stream,
        peer: Option<SocketAddr>,
    ) -> Result<(Said, Option<Counted>), Refusal> {
        let said = match &self.announced {
            Some(trusted) => hear(trusted, stream, peer).await?,
            None => Said { client: peer, destination: None, key: None },
        };
        let counted = match (&self.sources, said.client.map(|client| client.ip())) {
            (Some(sources), Some(ip)) => Some(sources.count(ip).ok_or(Refusal::TooMany(ip))?),
            _ => None,
        };
        Ok((said, counted))
    }
}

/// What is known of a connection before its first byte.
struct Said {
    client: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    key: Option<Box<[u8]>>,
}

/// Has the peer say on whose behalf it connects, if it is to be believed.
async fn hear(
    trusted: &[IpNet],
    stream: &mut Stream,
    peer: Option<SocketAddr>,
) -> Result<Said, Refusal> {
    // A file's permissions say who may connect to a unix socket.
    if let Some(peer) = peer.map(|peer| peer.ip())
        && !trusted.iter().any(|network| network.contains(&peer))
    {
        return Err(Refusal::Untrusted(peer));
    }
    let late = |_| Refusal::Silence(io::ErrorKind::TimedOut.into());
    let header = timeout(PATIENCE, read_header(stream)).await.map_err(late)??;
    if header.transport == Some(Transport::Datagram) {
        return Err(Refusal::Datagram);
    }
    let key = header.tlv(AFFINITY).filter(|key| !key.is_empty()).map(Into::into);
    let (client, destination) = match header.addresses {
        Some(said) => (Some(canonical(said.source)), Some(canonical(said.destination))),
        None => (peer, None),
    };
    Ok(Said { client, destination, key })
}

/// Reads the header and not a byte more: what follows belongs to others. So the bytes that have come
/// are looked at before they are taken.
async fn read_header(stream: &mut Stream) -> Result<Header, Refusal> {
    let mut head = Vec::with_capacity(AHEAD);
    loop {
        let mut ahead = [0; AHEAD];
        let came = stream.peek(&mut ahead).await.map_err(Refusal::Silence)?;
        if came == 0 {
            return Err(Refusal::Silence(io::ErrorKind::UnexpectedEof.into()));
        }
        let before = head.len();
        head.extend_from_slice(&ahead[..came]);
        let found = proxy_protocol::parse(&head)?;
        let taken = found.as_ref().map_or(came, |(_, length)| length - before);
        stream.read_exact(&mut ahead[..taken]).await.map_err(Refusal::Silence)?;
        if let Some((header, _)) = found {
            return Ok(header);
        }
    }
}

/// The connections of each client, for all workers. A listener without this bound has none.
#[derive(Debug)]
pub struct PerSource {
    limit: u32,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection of a client, as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    sources: Arc<PerSource>,
    ip: IpAddr,
}

impl PerSource {
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { limit, counts: Mutex::default() })
    }

    /// `None`: it has as many as it may have.
    fn count(self: &Arc<Self>, ip: IpAddr) -> Option<Counted> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Counted { sources: Arc::clone(self), ip })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.sources.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_as_many_connections_as_it_may_have() {
        let sources = PerSource::new(2);
        let [one, other] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let first = sources.count(one);
        let second = sources.count(one);
        assert!(first.is_some() && second.is_some() && sources.count(one).is_none());
        assert!(sources.count(other).is_some());
        drop(first);
        assert!(sources.count(one).is_some());
        drop(second);
        // Nobody is remembered who has none.
        assert!(sources.counts.lock().unwrap().is_empty());
    }
}
