//! Sending a request to a backend, and to another one where that is safe.
//!
//! A request is tried again when it cannot have been seen: no connection came about, or not a
//! byte of it was written; or when seeing it twice is harmless and no byte of an answer has come:
//! its method is idempotent and it has no body (RFC 9110, section 9.2.2).

use std::future::poll_fn;
use std::task::{Context, Poll};

use super::defect::Defect;
use super::downstream::Downstream;
use super::exchange::{Plan, Stopped};
use super::fields::Kind;
use super::framing::{self, Framing};
use super::head::{Progress, ResponseHead};
use super::upload::{Upload, UploadError};
use super::write::{self, Outgoing};
use crate::cluster::Pick;
use crate::proxy::http::error::ProxyError;
use crate::telemetry::metrics::Outcome;
use crate::upstream::Connection;

/// Interim answers (1xx) to one request.
const MAX_INTERIMS: usize = 32;

/// A request that a backend has answered with a final head.
#[derive(Debug)]
pub(super) struct Answered<'a> {
    pub(super) pick: Pick,
    pub(super) connection: Box<Connection>,
    /// What is left of the request.
    pub(super) upload: Upload<'a>,
    /// How the body of the answer is delimited.
    pub(super) framing: Framing,
}

/// An attempt that came to nothing.
struct Failure {
    stopped: Stopped,
    /// Whether the request may be sent again.
    again: bool,
    /// Whether only an old connection turned out to be closed, which says nothing about the
    /// backend.
    stale: bool,
}

impl Failure {
    fn last(stopped: impl Into<Stopped>) -> Self {
        Self { stopped: stopped.into(), again: false, stale: false }
    }
}

/// Sends the request to one backend after another until one answers; `answer` is its head.
pub(super) async fn forward<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    answer: &mut ResponseHead,
) -> Result<Answered<'a>, Stopped> {
    let cluster = &plan.decision.destination.cluster;
    let body = app.wire.input.mark();
    let mut tried = Vec::new();
    let mut attempts = 0;
    let mut last = None;
    let result = loop {
        let picked = cluster.pick(&tried).or_else(|none| match &last {
            // A closed connection to the only backend: a new one may do.
            Some(_) if attempts == 0 => cluster.pick(&[]),
            _ => Err(none),
        });
        let pick = match picked {
            Ok(pick) => pick,
            Err(none) => break Err(last.unwrap_or(ProxyError::from(none).into())),
        };
        let backend = pick.backend.id;
        app.wire.input.rewind(body);
        match attempt(app, plan, pick, last.is_some(), answer).await {
            Ok(answered) => break Ok(answered),
            Err(failure) => {
                attempts += usize::from(!failure.stale);
                if !failure.again || attempts >= cluster.settings().attempts {
                    break Err(failure.stopped);
                }
                last = Some(failure.stopped);
                tried.push(backend);
            }
        }
    };
    if !tried.is_empty() {
        let metrics = cluster.metrics();
        let retries =
            if result.is_ok() { &metrics.retries_succeeded } else { &metrics.retries_failed };
        retries.increment(tried.len() as u64);
    }
    result
}

/// One try at one backend. `fresh` asks for a connection that has carried nothing yet.
async fn attempt<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    mut pick: Pick,
    fresh: bool,
    answer: &mut ResponseHead,
) -> Result<Answered<'a>, Failure> {
    let cluster = &plan.decision.destination.cluster;
    let timeouts = &cluster.settings().timeouts;
    let pooled = if fresh { None } else { cluster.pool.take(pick.backend.id) };
    let mut connection = match pooled {
        Some(connection) => connection,
        None => match Connection::open(&pick.backend, timeouts.connect).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(backend = %pick.backend.name, %error, "connect failed");
                pick.outcome(Outcome::ConnectFailed);
                let stopped = ProxyError::ConnectFailed.into();
                return Err(Failure { stopped, again: true, stale: false });
            }
        },
    };
    let outgoing = Outgoing {
        request: plan.request,
        target: plan.target,
        path: &plan.decision.path,
        host: plan.decision.host.unwrap_or(pick.backend.host.as_bytes()),
        framing: plan.framing,
        sender: &app.sender,
        upgrade: plan.upgrade,
    };
    write::request_head(connection.wire.output.bytes(), &outgoing);

    let mut attempt = Attempt {
        written_before: connection.wire.written,
        read_before: connection.wire.read,
        connection,
        upload: Upload::new(plan.framing, cluster),
        progress: Progress::default(),
    };
    app.upstream.set(timeouts.response);
    match attempt.answer(app, plan, answer).await {
        Ok(framing) => {
            let Attempt { connection, upload, .. } = attempt;
            Ok(Answered { pick, connection, upload, framing })
        }
        Err(end) => Err(attempt.failed(plan, &mut pick, end)),
    }
}

struct Attempt<'a> {
    connection: Box<Connection>,
    upload: Upload<'a>,
    progress: Progress,
    /// What the connection had written and read before this request.
    written_before: u64,
    read_before: u64,
}

/// How an attempt ended without an answer.
#[derive(Clone, Copy)]
enum End {
    /// The backend closed the connection, or it broke.
    Closed,
    Timeout,
    /// The answer is not one.
    Defect(Defect),
    App(UploadError),
}

impl<'a> Attempt<'a> {
    /// Sends the request and reads up to the head of the final answer; interim ones are relayed.
    async fn answer(
        &mut self,
        app: &mut Downstream,
        plan: &Plan<'_>,
        answer: &mut ResponseHead,
    ) -> Result<Framing, End> {
        for _ in 0..=MAX_INTERIMS {
            poll_fn(|cx| self.poll_head(app, answer, cx)).await?;
            let response = answer.view();
            match response.status {
                // What is left of the request would become bytes of the other protocol.
                101 if self.upload.is_done() && switches(plan, answer) => {
                    return Ok(Framing::UntilClose);
                }
                101 => return Err(End::Defect(Defect::Switch)),
                // HTTP/1.0 does not know them.
                100..=199 if plan.request.http10 => {}
                100..=199 => {
                    write::interim_head(app.wire.output.bytes(), &response);
                    let flushed = app.flush().await;
                    flushed.map_err(|_| End::App(UploadError::AppGone))?;
                }
                _ => {
                    let to_head = plan.request.method == "HEAD";
                    return framing::of_response(&response, to_head).map_err(End::Defect);
                }
            }
        }
        Err(End::Defect(Defect::TooManyInterims))
    }

    /// Ready with the next head of the backend; meanwhile the request goes out.
    fn poll_head(
        &mut self,
        app: &mut Downstream,
        answer: &mut ResponseHead,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        let wire = &mut self.connection.wire;
        if let Poll::Ready(Err(error)) = self.upload.poll(app, wire, cx) {
            return Poll::Ready(Err(End::App(error)));
        }
        loop {
            if !wire.input.is_empty() {
                match answer.parse(wire.input.unused(), &mut self.progress) {
                    Ok(Some(length)) => {
                        wire.input.consume(length);
                        self.progress = Progress::default();
                        return Poll::Ready(Ok(()));
                    }
                    Ok(None) => {}
                    Err(defect) => return Poll::Ready(Err(End::Defect(defect))),
                }
            }
            match wire.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) => return Poll::Ready(Err(End::Closed)),
                Poll::Pending => return app.upstream.poll(cx).map(|()| Err(End::Timeout)),
            }
        }
    }

    fn failed(self, plan: &Plan<'_>, pick: &mut Pick, end: End) -> Failure {
        let wire = &self.connection.wire;
        match end {
            End::Closed => {
                pick.outcome(Outcome::Reset);
                let unsent = wire.written == self.written_before;
                let harmless = is_idempotent(plan.request.method)
                    && matches!(plan.framing, Framing::Empty | Framing::Length(0));
                let again = unsent || (harmless && wire.read == self.read_before);
                let stale = again && self.connection.reused;
                Failure { stopped: ProxyError::Reset.into(), again, stale }
            }
            End::Timeout => {
                pick.outcome(Outcome::Timeout);
                Failure::last(ProxyError::Timeout)
            }
            End::Defect(defect) => {
                tracing::debug!(backend = %pick.backend.name, ?defect, "bad answer");
                pick.outcome(Outcome::Reset);
                Failure::last(ProxyError::UpstreamProtocol)
            }
            // None of it is the backend's fault: the attempt counts as cancelled.
            End::App(UploadError::Defect(defect)) => Failure::last(defect),
            End::App(UploadError::AppGone) => Failure::last(Stopped::AppGone),
        }
    }
}

/// Methods that may be repeated without another effect (RFC 9110, section 9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

/// Whether the backend switches to the protocol that was asked for.
fn switches(plan: &Plan<'_>, answer: &ResponseHead) -> bool {
    let response = answer.view();
    let Some(asked) = plan.upgrade else { return false };
    let mut protocols = asked.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    response.fields.names(Kind::Connection, b"upgrade")
        && protocols.any(|protocol| response.fields.names(Kind::Upgrade, protocol))
}
