//! Several nameservers that all know the same: whoever answers well is asked first from then on.
//!
//! Each is a hickory pool of one, which repeats a truncated answer over TCP and keeps connections.
//! A pool of all would not do: it takes the first SERVFAIL or REFUSED for the answer of all, and
//! does not come past two silent ones before its time is over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tokio::time::timeout;

/// Answers of this size pass any network in one piece over UDP (DNS flag day 2020); larger ones
/// are asked for again over TCP.
const UDP_PAYLOAD: u16 = 1232;

pub(super) struct Nameservers {
    servers: Vec<Server>,
    /// Which of them answered last.
    first: AtomicUsize,
    /// How long those before may be silent until the next one is asked too.
    patience: Duration,
}

struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
}

impl Nameservers {
    /// `time`: what each of them has for an answer over UDP, and again for one over TCP.
    pub(super) fn new(
        addresses: &[SocketAddr],
        time: Duration,
        tcp_only: bool,
    ) -> Result<Self, NetError> {
        let mut options = ResolverOpts::default();
        options.timeout = time;
        options.edns0 = true;
        options.edns_payload_len = UDP_PAYLOAD;
        let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
        let server = |address: &SocketAddr| {
            let config = [server_config(*address, tcp_only)];
            let runtime = TokioRuntimeProvider::default();
            let pool = NameServerPool::from_config(config, Arc::clone(&context), runtime);
            Server { address: *address, pool }
        };
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        Ok(Self {
            servers: addresses.iter().map(server).collect(),
            first: AtomicUsize::new(0),
            patience: time / count,
        })
    }

    /// The first answer that `judge` lets pass, or what was wrong with the last one. The next
    /// nameserver is asked as soon as one failed, and beside those that are silent for too long.
    pub(super) async fn ask<T>(
        &self,
        query: &Query,
        judge: impl Fn(Result<DnsResponse, NetError>) -> Result<T, String>,
    ) -> Result<T, String> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.servers.len());
        let mut turns = (0..count).map(|turn| (first + turn) % count);
        let mut asked = FuturesUnordered::new();
        let mut failure = "there is no nameserver".into();
        loop {
            if let Some((index, server)) =
                turns.next().and_then(|index| Some((index, self.servers.get(index)?)))
            {
                asked.push(async move { (index, server, server.ask(query).await) });
            }
            let Ok(answered) = timeout(self.patience, asked.next()).await else { continue };
            let Some((index, server, answer)) = answered else { return Err(failure) };
            match judge(answer) {
                Ok(answer) => {
                    self.answered(index);
                    return Ok(answer);
                }
                Err(error) => failure = format!("nameserver {}: {error}", server.address),
            }
        }
    }

    fn answered(&self, index: usize) {
        let before = self.first.swap(index, Ordering::Relaxed);
        if let (true, Some(server)) = (before != index, self.servers.get(index)) {
            tracing::info!(nameserver = %server.address, "another nameserver is asked first");
        }
    }
}

impl Server {
    async fn ask(&self, query: &Query) -> Result<DnsResponse, NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_payload_len = UDP_PAYLOAD;
        let request = DnsRequest::from_query(query.clone(), options);
        self.pool.send(request).next().await.unwrap_or(Err(NetError::NoConnections))
    }
}

fn server_config(address: SocketAddr, tcp_only: bool) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::tcp()];
    if !tcp_only {
        connections.insert(0, ConnectionConfig::udp());
    }
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}
