//! What the requests of a listener share on one worker, whatever protocol they come in.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::account::{Account, Answer};
use super::error::ProxyError;
use super::h1::defect::Defect;
use super::h1::target::{Target, split_port};
use super::path;
use super::route::{Match, Routes};
use crate::config::{self, HostPolicy};
use crate::proxy::cluster::LocalCluster;
use crate::proxy::timer::Timers;
use crate::telemetry::access::ListenerLog;
use crate::telemetry::metrics::{End, RouteMetrics};

/// Where a route leads.
#[derive(Debug)]
pub(in crate::proxy) struct Destination {
    pub(in crate::proxy) cluster: Rc<LocalCluster>,
    pub(in crate::proxy) metrics: Arc<RouteMetrics>,
}

#[derive(Debug)]
pub(in crate::proxy) struct Site {
    pub(in crate::proxy) routes: Routes<Destination>,
    /// Counts what no route takes.
    pub(in crate::proxy) unrouted: Arc<RouteMetrics>,
    /// Hosts, without port, that name the listener itself.
    pub(in crate::proxy) own_names: Vec<String>,
    pub(in crate::proxy) timeouts: config::ListenerTimeouts,
    pub(in crate::proxy) timers: Rc<Timers>,
    /// Whether the sidecar is stopping: then no connection is kept.
    pub(in crate::proxy) draining: Rc<Cell<bool>>,
    /// Whether idle connections are to be closed; whoever sets it wakes all timers.
    pub(in crate::proxy) closing: Rc<Cell<bool>>,
    pub(in crate::proxy) date: Rc<Date>,
    /// `None`: nothing is written down.
    pub(in crate::proxy) access: Option<Arc<ListenerLog>>,
}

/// What is done with a request.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    pub(super) destination: &'a Destination,
    /// The path that the backend is asked for.
    pub(super) path: Cow<'a, str>,
    /// The Host that it is sent; `None` is the name of whichever backend is picked.
    pub(super) host: Option<&'a [u8]>,
}

impl Site {
    /// Where a request goes, and as what.
    pub(super) fn decide<'a>(&'a self, target: &Target<'a>) -> Result<Decision<'a>, ProxyError> {
        let path = match self.routes.by_path && target.path.starts_with('/') {
            true => path::canonical(target.path).ok_or(Defect::DotSegments)?,
            false => target.path.into(),
        };
        let found = self.routes.find(target.host, path).ok_or(ProxyError::NoRoute)?;
        let Match { leads_to: destination, path } = found;
        let host = match &destination.cluster.settings().host {
            HostPolicy::Literal(literal) => Some(literal.as_bytes()),
            HostPolicy::Target => None,
            HostPolicy::Auto if self.is_named_by(target.host) => None,
            HostPolicy::Auto | HostPolicy::Preserve => target.host.map(str::as_bytes),
        };
        Ok(Decision { destination, path, host })
    }

    fn is_named_by(&self, host: Option<&str>) -> bool {
        let name = host.map_or("", |host| split_port(host).0);
        self.own_names.iter().any(|own| name.eq_ignore_ascii_case(own))
    }
}

/// Counts a request when its answer has ended, however it ends, and has it written down.
#[derive(Debug)]
pub(super) struct Record<'a> {
    metrics: Arc<RouteMetrics>,
    cluster: Option<Rc<LocalCluster>>,
    started: Instant,
    status: u16,
    /// Why the answer is one of our own.
    error: Option<ProxyError>,
    is_tunnel: bool,
    /// Why it has ended.
    pub(super) end: End,
    /// `None`: nothing is written down.
    account: Option<&'a Account<'a>>,
}

/// What a request counts as that its app gave up, as nginx has it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl<'a> Record<'a> {
    pub(super) fn new(site: &Site, account: Option<&'a Account<'a>>) -> Self {
        let metrics = Arc::clone(&site.unrouted);
        let started = Instant::now();
        Self {
            metrics,
            cluster: None,
            started,
            status: CLIENT_CLOSED_REQUEST,
            error: None,
            is_tunnel: false,
            // Whoever is not heard of again was dropped with the worker.
            end: End::ShuttingDown,
            account,
        }
    }

    /// When the head of the request was there.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    pub(super) fn routed(&mut self, destination: &Destination) {
        self.metrics = Arc::clone(&destination.metrics);
        self.cluster = Some(Rc::clone(&destination.cluster));
    }

    /// The status of the answer that the app gets.
    pub(super) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    pub(super) fn failed(&mut self, error: ProxyError) {
        self.answered(error.status().as_u16());
        self.error = Some(error);
        if let Some(counter) = self.metrics.errors(error.reason()) {
            counter.increment(1);
        }
    }

    /// A connection that has become a tunnel has no duration as a request.
    pub(super) fn without_duration(&mut self) {
        self.is_tunnel = true;
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.metrics.requests(self.status).increment(1);
        let lasted = self.started.elapsed();
        if let (Some(cluster), false) = (&self.cluster, self.is_tunnel) {
            cluster.metrics().request_duration.record(lasted);
        }
        let Some(account) = self.account else { return };
        let cluster = self.cluster.as_ref().map(|cluster| Arc::clone(&cluster.settings().name));
        let error = self.error.map(ProxyError::reason);
        account.close(Answer { cluster, status: self.status, error, lasted, end: self.end });
    }
}

/// The date as answers have it, formatted once a second.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Date {
    latest: RefCell<(u64, String)>,
}

impl Date {
    pub(super) fn with<T>(&self, use_it: impl FnOnce(&str) -> T) -> T {
        let now = std::time::SystemTime::now();
        let second = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut latest = self.latest.borrow_mut();
        if latest.0 != second {
            *latest = (second, httpdate::fmt_http_date(now));
        }
        use_it(&latest.1)
    }
}
