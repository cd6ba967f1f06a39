//! What the connections of a TCP listener share on one worker.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::route::Routes;
use super::way::Tools;
use crate::proxy::cluster::LocalCluster;
use crate::proxy::timer::Timers;
use crate::telemetry::metrics::{End, TransportMetrics};

#[derive(Debug)]
pub(in crate::proxy) struct Site {
    pub(in crate::proxy) routes: Routes<Destination>,
    /// Counts what no route takes.
    pub(in crate::proxy) nowhere: Arc<TransportMetrics>,
    pub(in crate::proxy) timers: Rc<Timers>,
    pub(in crate::proxy) tools: Rc<Tools>,
}

/// Where a route leads.
#[derive(Debug)]
pub(in crate::proxy) struct Destination {
    pub(in crate::proxy) cluster: Rc<LocalCluster>,
    pub(in crate::proxy) metrics: Arc<TransportMetrics>,
}

/// Counts a connection when it has ended, however it ends.
#[derive(Debug)]
pub(super) struct Record {
    metrics: Arc<TransportMetrics>,
    pub(super) started: Instant,
    /// Why it has ended.
    pub(super) end: End,
}

impl Record {
    pub(super) fn new(site: &Site) -> Self {
        // Whoever is not heard of again was dropped with the worker.
        let (metrics, end) = (Arc::clone(&site.nowhere), End::ShuttingDown);
        Self { metrics, started: Instant::now(), end }
    }

    pub(super) fn routed(&mut self, destination: &Destination) {
        self.metrics = Arc::clone(&destination.metrics);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.ended(self.end, self.started.elapsed());
    }
}
