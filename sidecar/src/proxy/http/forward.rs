//! Sending a request to a backend, and to another one where that is safe.
//!
//! A request is tried again when it cannot have been seen: no connection came about, or it was
//! never written; or when seeing it twice is harmless and no answer has begun: its method is
//! idempotent and it has no body (RFC 9110, section 9.2.2).

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, EXPECT, HOST, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::body::{Gate, Relay, RequestBody, ResponseBody, Upload, UploadState};
use super::check::Refusal;
use super::downstream::Downstream;
use super::exchange::{LocalCluster, Record};
use super::headers;
use super::reply::ProxyError;
use crate::cluster::Pick;
use crate::telemetry::metrics::Outcome;
use crate::upstream::{self, Connection};

/// A request as it leaves.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) head: Parts,
    /// The Host to send; `None` is the name of the backend.
    pub(super) host: Option<HeaderValue>,
    /// `None` when there is none.
    pub(super) body: Option<Incoming>,
}

/// The head of a backend's answer, with all that its body needs.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<()>,
    body: Incoming,
    pick: Pick,
    connection: Connection<RequestBody>,
    upload: Option<Rc<Upload>>,
    cluster: Rc<LocalCluster>,
    downstream: Rc<Downstream>,
}

/// An attempt that came to nothing.
struct Failure {
    error: ProxyError,
    /// The request, if it may be sent again.
    request: Option<Request<RequestBody>>,
    /// Whether only an old connection turned out to be closed, which says nothing about the
    /// backend.
    stale: bool,
}

/// Sends the request to one backend after another until one answers.
pub(super) async fn forward(
    cluster: &Rc<LocalCluster>,
    downstream: &Rc<Downstream>,
    outgoing: Outgoing,
) -> Result<Answer, ProxyError> {
    let Outgoing { head, host, body } = outgoing;
    let upload = body.as_ref().map(|_| Upload::new(Rc::clone(downstream), Rc::clone(cluster)));
    let mut request = into_request(head, body, upload.as_ref());
    let mut tried = Vec::new();
    let mut attempts = 0;
    let mut last: Option<ProxyError> = None;
    let result = loop {
        let picked = cluster.pick(&tried).or_else(|none| match last {
            // A closed connection to the only backend: a new one may do.
            Some(_) if attempts == 0 => cluster.pick(&[]),
            _ => Err(none),
        });
        let mut pick = match picked {
            Ok(pick) => pick,
            Err(none) => break Err(last.unwrap_or(none.into())),
        };
        let host = host.as_ref().unwrap_or(&pick.backend.host).clone();
        request.headers_mut().insert(HOST, host);

        let fresh = last.is_some();
        match attempt(cluster, downstream, upload.as_deref(), &mut pick, request, fresh).await {
            Ok((response, connection)) => break Ok((response, connection, pick)),
            Err(failure) => {
                attempts += usize::from(!failure.stale);
                last = Some(failure.error);
                match failure.request {
                    Some(again) if attempts < cluster.settings().attempts => request = again,
                    _ => break Err(failure.error),
                }
                tried.push(pick.backend.id);
            }
        }
    };
    if !tried.is_empty() {
        let metrics = cluster.metrics();
        let retries =
            if result.is_ok() { &metrics.retries_succeeded } else { &metrics.retries_failed };
        retries.increment(tried.len() as u64);
    }
    let (response, connection, pick) = result?;
    let (parts, body) = response.into_parts();
    Ok(Answer {
        response: Response::from_parts(parts, ()),
        body,
        pick,
        connection,
        upload,
        cluster: Rc::clone(cluster),
        downstream: Rc::clone(downstream),
    })
}

fn into_request(
    head: Parts,
    body: Option<Incoming>,
    upload: Option<&Rc<Upload>>,
) -> Request<RequestBody> {
    let (Some(incoming), Some(upload)) = (body, upload) else {
        return Request::from_parts(head, RequestBody::Empty);
    };
    let gate = head.headers.contains_key(EXPECT).then(Arc::<Gate>::default);
    let body = RequestBody::streaming(incoming, Rc::clone(upload), gate.clone());
    let mut request = Request::from_parts(head, body);
    if let Some(gate) = gate {
        // hyper sends the app a 100 when the body is first asked for: not before the backend's.
        hyper::ext::on_informational(&mut request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                gate.open();
            }
        });
    }
    request
}

/// One try at one backend. `fresh` asks for a connection that has carried nothing yet.
async fn attempt(
    cluster: &LocalCluster,
    downstream: &Downstream,
    upload: Option<&Upload>,
    pick: &mut Pick,
    request: Request<RequestBody>,
    fresh: bool,
) -> Result<(Response<Incoming>, Connection<RequestBody>), Failure> {
    let timeouts = &cluster.settings().timeouts;
    let pooled = if fresh { None } else { cluster.pool.take(pick.backend.id) };
    let mut connection = match pooled {
        Some(connection) => connection,
        None => match upstream::connect(&pick.backend, timeouts.connect).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(backend = %pick.backend.name, %error, "connect failed");
                pick.outcome(Outcome::ConnectFailed);
                let error = ProxyError::ConnectFailed;
                return Err(Failure { error, request: Some(request), stale: false });
            }
        },
    };
    let spare = spare(&request);
    downstream.upstream.set(timeouts.response);
    let sent = tokio::select! {
        biased;
        sent = connection.send(request) => sent,
        () = std::future::poll_fn(|cx| downstream.upstream.poll(cx)) => {
            pick.outcome(Outcome::Timeout);
            return Err(Failure { error: ProxyError::Timeout, request: None, stale: false });
        }
    };
    downstream.upstream.clear();
    match sent {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            // Nobody asked for it: no request leaves with an Upgrade.
            pick.outcome(Outcome::Reset);
            Err(Failure { error: ProxyError::UpstreamProtocol, request: None, stale: false })
        }
        Ok(response) => Ok((response, connection)),
        Err(mut failed) => {
            let request = failed.take_message().or(spare);
            let failure = judge(&failed, upload, request, connection.reused);
            if !matches!(failure.error, ProxyError::Refused(_)) {
                tracing::debug!(backend = %pick.backend.name, error = %failed.error(), "no answer");
                pick.outcome(Outcome::Reset);
            }
            Err(failure)
        }
    }
}

/// A copy of a request that may be sent twice.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !request.method().is_idempotent() || !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut spare = Request::new(RequestBody::Empty);
    spare.method_mut().clone_from(request.method());
    spare.uri_mut().clone_from(request.uri());
    spare.headers_mut().clone_from(request.headers());
    Some(spare)
}

/// Whose fault it is that there is no answer.
fn judge(
    failed: &TrySendError<Request<RequestBody>>,
    upload: Option<&Upload>,
    request: Option<Request<RequestBody>>,
    reused: bool,
) -> Failure {
    let refused = |status, why| ProxyError::Refused(Refusal { status, why });
    let error = match upload.map(Upload::state) {
        Some(UploadState::TimedOut) => {
            refused(StatusCode::REQUEST_TIMEOUT, "the request body paused for too long")
        }
        Some(UploadState::Broken) => {
            refused(StatusCode::BAD_REQUEST, "the request body is malformed or incomplete")
        }
        _ if failed.error().is_parse() => ProxyError::UpstreamProtocol,
        _ => ProxyError::Reset,
    };
    let request = request.filter(|_| error == ProxyError::Reset);
    Failure { error, stale: reused && request.is_some(), request }
}

impl Answer {
    /// The answer for the app; `record` counts it when its body has ended.
    pub(super) fn relayed(self, record: Record) -> Response<ResponseBody> {
        let (mut head, ()) = self.response.into_parts();
        headers::response(&mut head.headers);
        head.version = Version::HTTP_11;
        head.extensions.clear();

        let status = head.status;
        if let Some(upload) = &self.upload {
            upload.answered(status.is_success());
            if upload.state() == UploadState::Stopped {
                head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        let outcome = if status.is_server_error() { Outcome::Http5xx } else { Outcome::Success };
        let relay = Relay {
            pick: self.pick,
            outcome,
            connection: self.connection,
            upload: self.upload,
            cluster: self.cluster,
            downstream: self.downstream,
            record,
        };
        Response::from_parts(head, ResponseBody::relayed(self.body, relay))
    }
}
