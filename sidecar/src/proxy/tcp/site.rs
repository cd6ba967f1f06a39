//! What the connections of a TCP listener share on one worker.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::route::Routes;
use super::way::Tools;
use crate::proxy::cluster::LocalCluster;
use crate::proxy::timer::Timers;
use crate::telemetry::access::{Entry, ListenerLog, Moved};
use crate::telemetry::metrics::{End, TransportMetrics};

#[derive(Debug)]
pub(in crate::proxy) struct Site {
    pub(in crate::proxy) routes: Routes<Destination>,
    /// Counts what no route takes.
    pub(in crate::proxy) nowhere: Arc<TransportMetrics>,
    pub(in crate::proxy) timers: Rc<Timers>,
    pub(in crate::proxy) tools: Rc<Tools>,
    /// `None`: nothing is written down.
    pub(in crate::proxy) access: Option<Arc<ListenerLog>>,
}

/// Where a route leads.
#[derive(Debug)]
pub(in crate::proxy) struct Destination {
    pub(in crate::proxy) cluster: Rc<LocalCluster>,
    pub(in crate::proxy) metrics: Arc<TransportMetrics>,
}

/// Counts a connection when it has ended, however it ends, and has it written down.
#[derive(Debug)]
pub(super) struct Record<'s> {
    site: &'s Site,
    destination: Option<&'s Destination>,
    started: Instant,
    pub(super) client: Option<SocketAddr>,
    pub(super) backend: Option<Arc<str>>,
    pub(super) moved: Moved,
    /// Why it has ended.
    pub(super) end: End,
}

impl<'s> Record<'s> {
    pub(super) fn new(site: &'s Site, client: Option<SocketAddr>) -> Self {
        Self {
            site,
            destination: None,
            started: Instant::now(),
            client,
            backend: None,
            moved: Moved::default(),
            // Whoever is not heard of again was dropped with the worker.
            end: End::ShuttingDown,
        }
    }

    pub(super) fn routed(&mut self, destination: &'s Destination) {
        self.destination = Some(destination);
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let lasted = self.started.elapsed();
        let metrics = self.destination.map_or(&self.site.nowhere, |to| &to.metrics);
        metrics.ended(self.end, lasted);
        let Some(access) = &self.site.access else { return };
        let cluster = self.destination.map(|to| Arc::clone(&to.cluster.settings().name));
        access.note(Entry {
            cluster: cluster.unwrap_or_default(),
            client: self.client,
            backend: self.backend.take(),
            lasted,
            moved: self.moved,
            end: self.end,
            request: None,
        });
    }
}
