//! What the sessions of a UDP listener share.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::UdpTraffic;
use crate::proxy::cluster::LocalCluster;
use crate::telemetry::access::{Entry, ListenerLog, Moved};
use crate::telemetry::metrics::{End, ListenerMetrics, TransportMetrics, UdpMetrics};

#[derive(Debug)]
pub(in crate::proxy) struct Site {
    pub(in crate::proxy) settings: UdpTraffic,
    pub(in crate::proxy) cluster: Rc<LocalCluster>,
    pub(in crate::proxy) metrics: Arc<TransportMetrics>,
    pub(in crate::proxy) listener: Arc<ListenerMetrics>,
    pub(in crate::proxy) udp: Arc<UdpMetrics>,
    /// `None`: nothing is written down.
    pub(in crate::proxy) access: Option<Arc<ListenerLog>>,
}

/// Counts a session for as long as it is open, and when it has ended, however it ends, and has it
/// written down.
#[derive(Debug)]
pub(super) struct Record {
    site: Rc<Site>,
    started: Instant,
    client: SocketAddr,
    pub(super) backend: Option<Arc<str>>,
    pub(super) moved: Moved,
    /// Why it has ended.
    pub(super) end: End,
}

impl Record {
    pub(super) fn new(site: &Rc<Site>, client: SocketAddr, now: Instant) -> Self {
        site.listener.connections.increment(1);
        site.udp.sessions.increment(1.0);
        // Whoever is not heard of again was dropped with the worker.
        let (site, moved, end) = (Rc::clone(site), Moved::default(), End::ShuttingDown);
        Self { site, started: now, client, backend: None, moved, end }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.site.udp.sessions.decrement(1.0);
        let lasted = self.started.elapsed();
        self.site.metrics.ended(self.end, lasted);
        let Some(access) = &self.site.access else { return };
        access.note(Entry {
            cluster: Arc::clone(&self.site.cluster.settings().name),
            client: Some(self.client),
            backend: self.backend.take(),
            lasted,
            moved: self.moved,
            end: self.end,
            request: None,
        });
    }
}
