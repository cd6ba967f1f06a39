//! One try of a request at one backend.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use super::defect::Defect;
use super::downstream::Downstream;
use super::exchange::Plan;
use super::fields::Kind;
use super::framing::{self, Framing};
use super::head::{Progress, Response, ResponseHead};
use super::hedge;
use super::retry::{Again, Attempts, Failure};
use super::upload::{Upload, UploadError};
use super::write::{self, Outgoing};
use crate::config::AffinityKey;
use crate::net::dial::{Patience, has_vanished};
use crate::proxy::http::error::ProxyError;
use crate::telemetry::metrics::Outcome;
use crate::upstream::{Connection, Seat, Signal, Work};

/// Interim answers (1xx) to one request.
pub(super) const MAX_INTERIMS: usize = 32;
/// A body that a backend has room for which has read all that it was sent before: then it does not
/// depend on its pace whether it is acknowledged.
const SHORT: u64 = 16 << 10;
/// How long a backend that was ejected may take to show that it has recovered, if it did not take
/// a tenth of that usually.
const TRIAL: Duration = Duration::from_secs(1);
/// The longest that a backend can ask to be left alone.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A request that a backend has answered with a final head.
#[derive(Debug)]
pub(super) struct Answered<'a> {
    pub(super) work: Work,
    pub(super) connection: Box<Connection>,
    /// What is left of the request.
    pub(super) upload: Upload<'a>,
    /// How the body of the answer is delimited.
    pub(super) framing: Framing,
}

/// A request on its way to a backend.
pub(super) struct Attempt<'a> {
    work: Work,
    connection: Box<Connection>,
    upload: Upload<'a>,
    progress: Progress,
    /// What the connection had written and read before this request.
    written_before: u64,
    read_before: u64,
}

/// How an attempt ended without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// The backend closed the connection, or it broke.
    Closed,
    /// Its machine has not been heard of for too long.
    Vanished,
    Timeout,
    /// The backend has stalled, and another may be asked.
    Stalled,
    /// It was ended by force.
    Cut,
    /// The answer is not one.
    Defect(Defect),
    App(UploadError),
}

/// Tries the request at one backend, and at a second one if that is late and may be; `answer` is
/// the head of what is said first.
pub(super) async fn attempt<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    mut work: Work,
    seat: Seat,
    attempts: &mut Attempts<'_>,
    answer: &mut ResponseHead,
) -> Result<Answered<'a>, Failure> {
    plan.asks(&work, attempts);
    let cluster = &plan.cluster().cluster;
    let connection = match seat.connect(cluster, Some(Patience::Short), &[]).await {
        Ok(connection) => connection,
        Err(error) => return Err(not_connected(&mut work, &error)),
    };
    let patience = patience(&work, attempts);
    app.upstream.set(patience);
    let mut attempt = Attempt::start(app, plan, work, connection, patience);
    if let Some(after) = hedge::delay(plan, &attempt, attempts) {
        return Box::pin(hedge::race(app, plan, attempt, attempts, answer, after)).await;
    }
    let ended = attempt.answer(app, plan, attempts, answer).await;
    match ended {
        Ok(framing) => Ok(attempt.answered(framing, &answer.view())),
        Err(end) => Err(attempt.failed(app, plan, end)),
    }
}

impl<'a> Attempt<'a> {
    /// Puts the head of the request into the connection's output. `patience`: how long the backend
    /// may be silent while the request is sent.
    pub(super) fn start(
        app: &Downstream,
        plan: &'a Plan<'_>,
        mut work: Work,
        mut connection: Box<Connection>,
        patience: Option<Duration>,
    ) -> Self {
        let outgoing = Outgoing {
            request: plan.request,
            target: plan.target,
            path: &plan.decision.path,
            host: plan.decision.host.unwrap_or(work.pick.backend.host.as_bytes()),
            framing: plan.framing,
            sender: &app.sender,
            upgrade: plan.upgrade,
            cookie: match &plan.cluster().settings().affinity.key {
                AffinityKey::Cookie(name) => Some(name.as_bytes()),
                _ => None,
            },
        };
        write::request_head(connection.wire.output.bytes(), &outgoing);
        // It need not have room for more, and may take its time to read.
        if !matches!(plan.framing, Framing::Empty | Framing::Length(0..=SHORT)) {
            connection.set_patience(Patience::Long);
        }
        work.movable(plan.repeatable);
        // An answer is waited for when all of the request is out.
        work.pick.sent(plan.has_no_body());
        Self {
            written_before: connection.wire.written,
            read_before: connection.wire.read,
            upload: Upload::new(plan, patience),
            progress: Progress::default(),
            connection,
            work,
        }
    }

    /// The id of its backend.
    pub(super) fn backend(&self) -> u64 {
        self.work.pick.backend.id
    }

    /// Whether its backend is the one where the request belongs.
    pub(super) fn belongs(&self) -> bool {
        self.work.pick.stayed
    }

    /// Sends the request and reads up to the head of the final answer; interim ones are relayed.
    async fn answer(
        &mut self,
        app: &mut Downstream,
        plan: &Plan<'_>,
        attempts: &Attempts<'_>,
        answer: &mut ResponseHead,
    ) -> Result<Framing, End> {
        for _ in 0..=MAX_INTERIMS {
            poll_fn(|cx| self.poll_head(app, plan, attempts, answer, cx)).await?;
            if let Some(framing) = self.framing(plan, answer)? {
                return Ok(framing);
            }
            // HTTP/1.0 does not know interim answers.
            if !plan.request.http10 {
                write::interim_head(app.wire.output.bytes(), &answer.view());
                let flushed = app.flush().await;
                flushed.map_err(|_| End::App(UploadError::AppGone))?;
            }
        }
        Err(End::Defect(Defect::TooManyInterims))
    }

    /// How the body of an answer is delimited; `None` for an interim answer.
    pub(super) fn framing(
        &self,
        plan: &Plan<'_>,
        answer: &ResponseHead,
    ) -> Result<Option<Framing>, End> {
        match answer.view().status {
            // What is left of the request would become bytes of the other protocol.
            101 if self.upload.is_done() && switches(plan, answer) => Ok(Some(Framing::UntilClose)),
            101 => Err(End::Defect(Defect::Switch)),
            100..=199 => Ok(None),
            _ => {
                let to_head = plan.request.method == "HEAD";
                framing::of_response(&answer.view(), to_head).map(Some).map_err(End::Defect)
            }
        }
    }

    /// Ready with the next head of the backend; meanwhile the request goes out.
    pub(super) fn poll_head(
        &mut self,
        app: &mut Downstream,
        plan: &Plan<'_>,
        attempts: &Attempts<'_>,
        answer: &mut ResponseHead,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        let wire = &mut self.connection.wire;
        if let Poll::Ready(Err(error)) = self.upload.poll(app, wire, cx) {
            return Poll::Ready(Err(End::App(error)));
        }
        if self.upload.is_done() {
            self.work.pick.sent(true);
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
                Poll::Ready(Err(error)) if has_vanished(&error) => {
                    return Poll::Ready(Err(End::Vanished));
                }
                Poll::Ready(_) => return Poll::Ready(Err(End::Closed)),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(signal) = self.work.poll(cx) {
            let silent = self.connection.wire.read == self.read_before;
            let may_move = || silent && attempts.may_follow() && plan.may_repeat(app);
            match signal {
                Signal::Cut => return Poll::Ready(Err(End::Cut)),
                Signal::Move if may_move() && attempts.pay() => {
                    return Poll::Ready(Err(End::Stalled));
                }
                // It stays, and hears of it when it is to end.
                Signal::Move => self.work.movable(false),
            }
        }
        app.upstream.poll(cx).map(|()| Err(End::Timeout))
    }

    pub(super) fn answered(mut self, framing: Framing, response: &Response<'_>) -> Answered<'a> {
        self.work.movable(false);
        let busy = matches!(response.status, 429 | 503);
        let retry_after = busy.then(|| retry_after(response)).flatten();
        self.work.pick.answered(response.status >= 500, retry_after);
        let Self { work, connection, upload, .. } = self;
        Answered { work, connection, upload, framing }
    }

    pub(super) fn failed(mut self, app: &mut Downstream, plan: &Plan<'_>, end: End) -> Failure {
        let wire = &self.connection.wire;
        let unseen = wire.written == self.written_before;
        let silent = wire.read == self.read_before;
        // A body is sent again from where it is held.
        let whole = plan.has_no_body() || app.wire.input.rewind();
        let harmless = silent && plan.repeatable && whole;
        let pick = &mut self.work.pick;
        let repeated = match pick.is_trial() {
            _ if !harmless => Again::No,
            // That the backend was asked at all was an experiment of ours.
            true => Again::Free,
            false => Again::Harmless,
        };
        match end {
            End::Closed => {
                let again = match (unseen && whole, harmless) {
                    (true, _) | (_, true) if self.connection.reused => Again::Stale,
                    (true, _) => Again::Unseen,
                    _ => repeated,
                };
                let stale = again == Again::Stale;
                pick.outcome(if stale { Outcome::Stale } else { Outcome::Reset });
                Failure { stopped: ProxyError::Reset.into(), again }
            }
            End::Timeout | End::Vanished => {
                pick.outcome(Outcome::Timeout);
                Failure { stopped: ProxyError::Timeout.into(), again: repeated }
            }
            End::Stalled => {
                // Once all of them have moved there is nothing left that it could answer: those who
                // waited in vain decide how long it stays out.
                pick.outcome(Outcome::Timeout);
                Failure { stopped: ProxyError::Timeout.into(), again: Again::Free }
            }
            // Not the backend's fault: the attempt counts as cancelled.
            End::Cut => Failure { stopped: ProxyError::Reset.into(), again: repeated },
            End::Defect(defect) => {
                tracing::debug!(backend = %pick.backend.name, ?defect, "bad answer");
                pick.outcome(Outcome::Reset);
                Failure::last(ProxyError::UpstreamProtocol)
            }
            // None of it is the backend's fault: the attempt counts as cancelled.
            End::App(UploadError::Defect(defect)) => Failure::last(defect),
            End::App(UploadError::AppGone) => Failure::last(super::exchange::Stopped::AppGone),
        }
    }
}

fn not_connected(work: &mut Work, error: &io::Error) -> Failure {
    let backend = &work.pick.backend.name;
    tracing::debug!(%backend, %error, "connect failed");
    work.pick.outcome(Outcome::ConnectFailed);
    Failure { stopped: ProxyError::ConnectFailed.into(), again: Again::Unseen }
}

/// How long the backend may be silent.
fn patience(work: &Work, attempts: &Attempts<'_>) -> Option<Duration> {
    let limit = attempts.patience();
    if !work.pick.is_trial() {
        return limit;
    }
    let usual = work.pick.backend.usual().unwrap_or_default().saturating_mul(10);
    [limit, Some(TRIAL.max(usual))].into_iter().flatten().min()
}

/// How long the backend asks to be left alone; only as a number of seconds, which is what those
/// who mean it send.
fn retry_after(response: &Response<'_>) -> Option<Duration> {
    let value = response.fields.values(Kind::RetryAfter).next()?;
    let seconds: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// Whether the backend switches to the protocol that was asked for.
fn switches(plan: &Plan<'_>, answer: &ResponseHead) -> bool {
    let response = answer.view();
    let Some(asked) = plan.upgrade else { return false };
    let mut protocols = asked.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    response.fields.names(Kind::Connection, b"upgrade")
        && protocols.any(|protocol| response.fields.names(Kind::Upgrade, protocol))
}
