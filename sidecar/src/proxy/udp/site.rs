//! What the sessions of a UDP listener share.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::UdpTraffic;
use crate::proxy::cluster::LocalCluster;
use crate::telemetry::metrics::{End, ListenerMetrics, TransportMetrics, UdpMetrics};

#[derive(Debug)]
pub(in crate::proxy) struct Site {
    pub(in crate::proxy) settings: UdpTraffic,
    pub(in crate::proxy) cluster: Rc<LocalCluster>,
    pub(in crate::proxy) metrics: Arc<TransportMetrics>,
    pub(in crate::proxy) listener: Arc<ListenerMetrics>,
    pub(in crate::proxy) udp: Arc<UdpMetrics>,
}

/// Counts a session for as long as it is open, and when it has ended, however it ends.
#[derive(Debug)]
pub(super) struct Record {
    site: Rc<Site>,
    started: Instant,
    /// Why it has ended.
    pub(super) end: End,
}

impl Record {
    pub(super) fn new(site: &Rc<Site>, now: Instant) -> Self {
        site.listener.connections.increment(1);
        site.udp.sessions.increment(1.0);
        // Whoever is not heard of again was dropped with the worker.
        Self { site: Rc::clone(site), started: now, end: End::ShuttingDown }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.site.udp.sessions.decrement(1.0);
        self.site.metrics.ended(self.end, self.started.elapsed());
    }
}
