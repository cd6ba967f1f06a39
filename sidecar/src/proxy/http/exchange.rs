//! One request and its answer, from the whole head to the last byte.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::{RequestBody, ResponseBody};
use super::check::{Head, Refusal, split_port};
use super::downstream::Downstream;
use super::forward::{self, Outgoing};
use super::reply::ProxyError;
use super::route::Routes;
use super::{headers, path};
use crate::cluster::{Cluster, NoPick, Pick, Picker};
use crate::config::{self, HostPolicy};
use crate::telemetry::metrics::{ClusterMetrics, RouteMetrics};
use crate::upstream::Pool;

/// A cluster as one worker uses it.
#[derive(Debug)]
pub(crate) struct LocalCluster {
    pub(crate) cluster: Arc<Cluster>,
    picker: RefCell<Picker>,
    pub(crate) pool: Pool<RequestBody>,
}

impl LocalCluster {
    pub(crate) fn new(cluster: Arc<Cluster>, rng: fastrand::Rng) -> Self {
        let picker = RefCell::new(Picker::new(Arc::clone(&cluster), rng));
        Self { cluster, picker, pool: Pool::default() }
    }

    pub(super) fn pick(&self, tried: &[u64]) -> Result<Pick, NoPick> {
        self.picker.borrow_mut().pick(tried)
    }

    pub(super) fn settings(&self) -> &config::Cluster {
        &self.cluster.settings
    }

    pub(super) fn metrics(&self) -> &ClusterMetrics {
        &self.cluster.metrics
    }
}

/// Where a route leads.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) cluster: Rc<LocalCluster>,
    pub(crate) metrics: Arc<RouteMetrics>,
}

/// What the requests of a listener share on one worker.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) routes: Routes<Destination>,
    /// Counts what no route takes.
    pub(crate) unrouted: Arc<RouteMetrics>,
    /// Hosts, without port, that name the listener itself.
    pub(crate) own_names: Vec<String>,
    pub(crate) timeouts: config::ListenerTimeouts,
    /// Whether the sidecar is stopping: then no connection is kept.
    pub(crate) draining: Rc<Cell<bool>>,
}

/// Counts a request when its answer has ended, however it ends.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Arc<RouteMetrics>,
    cluster: Option<Rc<LocalCluster>>,
    downstream: Rc<Downstream>,
    started: Instant,
    status: StatusCode,
}

/// What a request counts as that its app gave up, as nginx has it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.requests(self.status.as_u16()).increment(1);
        if let Some(cluster) = &self.cluster {
            cluster.metrics().request_duration.record(self.started.elapsed());
        }
        self.downstream.request_ended();
    }
}

/// Answers one request.
pub(super) async fn exchange(
    site: Rc<Site>,
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    downstream.request_began();
    let (mut parts, body) = request.into_parts();
    let mut record = Record {
        metrics: Arc::clone(&site.unrouted),
        cluster: None,
        downstream: Rc::clone(&downstream),
        started: Instant::now(),
        status: StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or_default(),
    };
    let mut response = match answer(&site, &mut parts, body, &mut record).await {
        Ok(answer) => {
            record.status = answer.response.status();
            answer.relayed(record)
        }
        Err(error) => {
            record.status = error.status();
            if let Some(counter) = record.metrics.errors(error.reason()) {
                counter.increment(1);
            }
            own(error.reply(&parts.headers), record)
        }
    };
    if site.draining.get() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn own(reply: Response<Bytes>, record: Record) -> Response<ResponseBody> {
    reply.map(|text| ResponseBody::Own { text: Some(text), _record: record })
}

/// The steps from a head to the head of an answer.
async fn answer(
    site: &Rc<Site>,
    parts: &mut Parts,
    body: Incoming,
    record: &mut Record,
) -> Result<forward::Answer, ProxyError> {
    let host = check(parts)?;
    let destination = route(site, host.as_ref(), parts)?;
    record.metrics = Arc::clone(&destination.metrics);
    record.cluster = Some(Rc::clone(&destination.cluster));

    let cluster = &destination.cluster;
    let names_us = host.as_ref().is_none_or(|host| names(host, &site.own_names));
    let outgoing = Outgoing {
        host: host_for_backend(&cluster.settings().host, host.as_ref(), names_us),
        head: take_head(parts, &record.downstream, host.as_ref()),
        body: (!body.is_end_stream()).then_some(body),
    };
    forward::forward(cluster, &record.downstream, outgoing).await
}

/// The host that the request is for, if it may be passed on at all.
fn check(parts: &Parts) -> Result<Option<HeaderValue>, Refusal> {
    let values = |name| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let head = Head {
        method: parts.method.as_str(),
        target: parts.uri.path_and_query().map_or("", PathAndQuery::as_str),
        authority: parts.uri.authority().map(|authority| authority.as_str()),
        http10: parts.version < Version::HTTP_11,
        host: values(HOST),
        transfer_encoding: values(TRANSFER_ENCODING),
        expect: values(EXPECT),
    };
    let Some(host) = head.check()? else { return Ok(None) };
    let as_sent = parts.headers.get(HOST).filter(|_| parts.uri.authority().is_none());
    Ok(as_sent.cloned().or_else(|| HeaderValue::from_str(host).ok()))
}

/// Finds the destination, and gives the request the path that its backend is sent.
fn route<'s>(
    site: &'s Rc<Site>,
    host: Option<&HeaderValue>,
    parts: &mut Parts,
) -> Result<&'s Destination, ProxyError> {
    let host = host.and_then(|host| host.to_str().ok());
    let target = parts.uri.path();
    let canonical = match site.routes.by_path && target.starts_with('/') {
        true => path::canonical(target).ok_or(Refusal {
            status: StatusCode::BAD_REQUEST,
            why: "path has dot segments with parameters",
        })?,
        false => target.into(),
    };
    let found = site.routes.find(host, canonical).ok_or(ProxyError::NoRoute)?;
    let path_and_query = if found.path == target {
        parts.uri.path_and_query().cloned()
    } else {
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        PathAndQuery::try_from(format!("{}{query}", found.path)).ok()
    };
    let destination = found.leads_to;
    // A backend is sent a path, also when the app sent an absolute target.
    parts.uri = path_and_query.map(Uri::from).unwrap_or_default();
    Ok(destination)
}

fn names(host: &HeaderValue, own_names: &[String]) -> bool {
    let name = host.to_str().map_or("", |host| split_port(host).0);
    own_names.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The Host to send; `None` is the name of whichever backend is picked.
fn host_for_backend(
    policy: &HostPolicy,
    host: Option<&HeaderValue>,
    names_us: bool,
) -> Option<HeaderValue> {
    match policy {
        HostPolicy::Auto if names_us => None,
        HostPolicy::Auto | HostPolicy::Preserve => host.cloned(),
        HostPolicy::Target => None,
        HostPolicy::Literal(literal) => Some(literal.clone()),
    }
}

/// The head for the backend. The fields that an own answer would look at stay behind.
fn take_head(parts: &mut Parts, downstream: &Downstream, host: Option<&HeaderValue>) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = parts.method.clone();
    head.uri = std::mem::take(&mut parts.uri);
    head.headers = std::mem::take(&mut parts.headers);
    if let Some(accept) = head.headers.get(http::header::ACCEPT) {
        parts.headers.insert(http::header::ACCEPT, accept.clone());
    }
    headers::request(&mut head.headers, &downstream.sender, host);
    head
}
