//! One request and its answer, from the whole head to the last byte.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::attempt::Answered;
use super::defect::Defect;
use super::downstream::Downstream;
use super::fields::Kind;
use super::forward::forward;
use super::framing::{self, Framing};
use super::head::{Request, RequestHead, Response, ResponseHead};
use super::relay::{Relay, RelayError, Side, Trailers};
use super::retry::{self, Attempts};
use super::target::{self, Target};
use super::upload::Upload;
use super::write::{self, Leaving};
use super::{reply, tunnel};
use crate::proxy::cluster::LocalCluster;
use crate::proxy::http::account::Account;
use crate::proxy::http::affinity::Affinity;
use crate::proxy::http::error::ProxyError;
use crate::proxy::http::site::{Decision, Record, Site};
use crate::telemetry::metrics::{End, Outcome};
use crate::upstream::Work;

/// What becomes of the app's connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request may come.
    Next,
    Close,
    /// An answer broke off: nobody may take it for whole.
    Reset,
}

/// A request that has passed every check, and what is done with it.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) request: Request<'a>,
    pub(super) target: Target<'a>,
    pub(super) framing: Framing,
    /// The protocol that the app asks to switch to.
    pub(super) upgrade: Option<&'a [u8]>,
    pub(super) decision: Decision<'a>,
    /// Where it belongs.
    pub(super) affinity: Affinity,
    /// Whether it may be seen twice.
    pub(super) repeatable: bool,
    /// `None`: nothing is written down.
    pub(super) account: Option<&'a Account<'a>>,
}

/// Serves one request.
pub(super) async fn exchange(
    app: &mut Downstream,
    head: &RequestHead,
    answer: &mut ResponseHead,
    site: &Rc<Site>,
) -> After {
    let request = head.view();
    let account = Account::open(site, app.sender.peer, Some(request));
    let mut record = Record::new(site, account.as_deref());
    let plan = match plan(app, request, site, account.as_deref()) {
        Ok(plan) => plan,
        Err(error) => {
            let after = after_error(error, &request, site);
            return own_answer(app, error, &request, after, record).await;
        }
    };
    record.routed(plan.decision.destination);
    let answered = forward(app, &plan, record.started(), answer).await;
    app.upstream.clear();
    match answered {
        Ok(answered) if answer.view().status == 101 => {
            record.answered(101);
            let set_cookie = settle(app, &plan, &answered);
            tunnel::run(app, &plan, answered, &answer.view(), &set_cookie, record).await
        }
        Ok(answered) => relay_answer(app, &plan, answered, &answer.view(), site, record).await,
        Err(Stopped::Error(error)) => {
            let after = after_error(error, &request, site);
            own_answer(app, error, &request, after, record).await
        }
        Err(Stopped::AppGone) => {
            record.end = End::ByApp;
            After::Reset
        }
    }
}

/// Why there is no answer to relay.
#[derive(Debug)]
pub(super) enum Stopped {
    Error(ProxyError),
    /// There is nobody to answer.
    AppGone,
}

fn plan<'a>(
    app: &Downstream,
    request: Request<'a>,
    site: &'a Site,
    account: Option<&'a Account<'a>>,
) -> Result<Plan<'a>, ProxyError> {
    let target = target::check(&request)?;
    let framing = framing::of_request(&request)?;
    let decision = site.decide(&target)?;
    let upgrade = asked_upgrade(&request);
    let cluster = &decision.destination.cluster;
    let affinity = Affinity::of(cluster, request.fields, || app.sender.client(request.fields));
    let repeatable = upgrade.is_none() && retry::is_repeatable(&request);
    Ok(Plan { request, target, framing, upgrade, decision, affinity, repeatable, account })
}

impl Plan<'_> {
    pub(super) fn cluster(&self) -> &LocalCluster {
        &self.decision.destination.cluster
    }

    /// A backend is asked, as one more attempt.
    pub(super) fn asks(&self, work: &Work, attempts: &Attempts<'_>) {
        if let Some(account) = self.account {
            account.asked(&work.pick.backend.name, attempts.with_next());
        }
    }

    /// Counts what has been passed on of the request's body.
    pub(super) fn sent(&self, bytes: u64) {
        self.cluster().metrics().bytes_to_backend.increment(bytes);
        if let Some(account) = self.account {
            account.sent(bytes);
        }
    }

    /// Counts what has been passed on of the answer's body.
    pub(super) fn received(&self, bytes: u64) {
        self.cluster().metrics().bytes_from_backend.increment(bytes);
        if let Some(account) = self.account {
            account.received(bytes);
        }
    }
}

/// `Upgrade`, where `Connection` says that it is meant (RFC 9110, section 7.8). HTTP/2 cannot be
/// passed on that way, and nobody may be talked into it behind our back.
fn asked_upgrade<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    if request.http10 || !request.fields.names(Kind::Connection, b"upgrade") {
        return None;
    }
    let is_http2 = |protocol: &[u8]| protocol.to_ascii_lowercase().starts_with(b"h2c");
    if request.fields.members(Kind::Upgrade).any(is_http2) {
        return None;
    }
    request.fields.values(Kind::Upgrade).find(|protocols| !protocols.is_empty())
}

/// What the app wants done with its connection after an answer.
fn keep(request: &Request<'_>, site: &Site) -> After {
    let asked = request.fields.keep_alive(request.http10);
    if asked && !site.draining.get() { After::Next } else { After::Close }
}

/// A body that was not read is in the way of the next request, and nobody knows where the next
/// request begins after one that was refused.
fn after_error(error: ProxyError, request: &Request<'_>, site: &Site) -> After {
    let refused = matches!(error, ProxyError::Refused(_));
    let empty = matches!(framing::of_request(request), Ok(Framing::Empty | Framing::Length(0)));
    if empty && !refused { keep(request, site) } else { After::Close }
}

async fn own_answer(
    app: &mut Downstream,
    error: ProxyError,
    request: &Request<'_>,
    after: After,
    mut record: Record<'_>,
) -> After {
    record.failed(error);
    reply::error(app.wire.output.bytes(), error, request, after == After::Close);
    send(app, after, record).await
}

/// Writes an answer that is whole already.
pub(super) async fn send(app: &mut Downstream, after: After, mut record: Record<'_>) -> After {
    match app.flush().await {
        Ok(()) => {
            record.end = End::Finished;
            after
        }
        Err(_) => {
            record.end = End::ByApp;
            After::Reset
        }
    }
}

/// The cookie that the client is to have from now on, if it is to have another.
fn settle(app: &Downstream, plan: &Plan<'_>, answered: &Answered<'_>) -> Vec<u8> {
    // Allocates only where there is one.
    let mut set_cookie = Vec::new();
    let cluster = plan.cluster();
    let secure = app.sender.is_secure(plan.request.fields);
    plan.affinity.settle(cluster, &answered.work.pick, secure, &mut set_cookie);
    set_cookie
}

/// Relays a final answer, and what is left of the request where the backend still wants it.
async fn relay_answer(
    app: &mut Downstream,
    plan: &Plan<'_>,
    answered: Answered<'_>,
    response: &Response<'_>,
    site: &Site,
    mut record: Record<'_>,
) -> After {
    record.answered(response.status);
    let set_cookie = settle(app, plan, &answered);
    let Answered { mut work, mut connection, mut upload, framing } = answered;
    let http10 = plan.request.http10;
    upload.answered((200..300).contains(&response.status));
    let leaving_as = write::framing_for(framing, http10);
    let kept = framing != Framing::UntilClose && response.fields.keep_alive(response.http10);
    let cut = upload.is_stopped() || leaving_as == Framing::UntilClose;
    // Where the backend closes, the rest of a request is lost.
    let cut = cut || !kept && !upload.is_done();
    let after = if cut { After::Close } else { keep(&plan.request, site) };
    let trailers = match plan.request.fields.names(Kind::Te, b"trailers") {
        true => Trailers::Kept,
        false => Trailers::Dropped,
    };
    let leaving = Leaving {
        framing: leaving_as,
        http10,
        close: after == After::Close,
        trailers: trailers == Trailers::Kept,
        to_head: plan.request.method == "HEAD",
    };
    let out = app.wire.output.bytes();
    site.date
        .with(|date| write::response_head(out, response, leaving, date.as_bytes(), &set_cookie));

    let chunked = (leaving_as == Framing::Chunked).then_some(trailers);
    let mut download = Download {
        relay: Relay::new(framing, chunked),
        counted: 0,
        upload: &mut upload,
        work: &work,
    };
    let cluster = plan.cluster();
    let written = app.wire.written;
    let relayed = poll_fn(|cx| download.poll(app, &mut connection.wire, plan, cx)).await;
    app.moved();
    app.upstream.clear();
    match relayed {
        Ok(()) => {}
        Err(Broken::Backend(outcome)) => {
            work.pick.outcome(outcome);
            let (end, error) = match outcome {
                Outcome::Timeout => (End::Idle, ProxyError::Timeout),
                Outcome::Cancelled => (End::Drained, ProxyError::Reset),
                _ => (End::ByBackend, ProxyError::UpstreamProtocol),
            };
            if app.wire.written > written {
                record.end = end;
                return After::Reset;
            }
            // Nothing of it has left: there is still time for an answer that says so.
            app.wire.output.clear();
            return own_answer(app, error, &plan.request, After::Close, record).await;
        }
        Err(Broken::App) => {
            record.end = End::ByApp;
            return After::Reset;
        }
    }
    record.end = End::Finished;
    let failed = response.status >= 500;
    work.pick.outcome(if failed { Outcome::Http5xx } else { Outcome::Success });
    if kept {
        upload.finish(app, &mut connection.wire).await;
    }
    let uploaded = upload.is_done();
    let reusable = uploaded && kept && connection.wire.input.is_empty();
    if reusable {
        cluster.give_back(connection);
    }
    drop(record);
    if uploaded { after } else { After::Close }
}

/// Which side an answer broke off on.
#[derive(Debug)]
enum Broken {
    Backend(Outcome),
    App,
}

struct Download<'u, 'a> {
    relay: Relay,
    /// Bytes of it that the metrics know of.
    counted: u64,
    upload: &'u mut Upload<'a>,
    work: &'u Work,
}

impl Download<'_, '_> {
    fn poll(
        &mut self,
        app: &mut Downstream,
        backend: &mut crate::net::wire::Wire,
        plan: &Plan<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        // Both may still be talking.
        let uploaded = self.upload.poll(app, backend, cx);
        let before = (app.wire.written, backend.read);
        let relayed = self.relay.poll(backend, &mut app.wire, cx);
        self.count(plan);
        match relayed {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(RelayError::To(_))) => return Poll::Ready(Err(Broken::App)),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                return Poll::Ready(Err(Broken::Backend(Outcome::Reset)));
            }
            Poll::Pending => {}
        }
        // What goes wrong with the request now can no longer be refused: the answer breaks off,
        // and the backend does not wait for the rest.
        if let Poll::Ready(Err(_)) = uploaded {
            return Poll::Ready(Err(Broken::App));
        }
        if before != (app.wire.written, backend.read) {
            app.moved();
            app.upstream.clear();
        }
        // Not the backend's fault: it counts as cancelled.
        if self.work.poll(cx).is_ready() {
            return Poll::Ready(Err(Broken::Backend(Outcome::Cancelled)));
        }
        match self.relay.waiting {
            Side::From => {
                let limit = plan.cluster().settings().timeouts.stream_idle;
                app.upstream.set_if_clear(limit);
                ready!(app.upstream.poll(cx));
                Poll::Ready(Err(Broken::Backend(Outcome::Timeout)))
            }
            Side::To => {
                ready!(app.poll_stalled(cx));
                Poll::Ready(Err(Broken::App))
            }
        }
    }

    fn count(&mut self, plan: &Plan<'_>) {
        let new = self.relay.moved - self.counted;
        if new > 0 {
            plan.received(new);
            self.counted = self.relay.moved;
        }
    }
}

impl From<Defect> for Stopped {
    fn from(defect: Defect) -> Self {
        Self::Error(defect.into())
    }
}

impl From<ProxyError> for Stopped {
    fn from(error: ProxyError) -> Self {
        Self::Error(error)
    }
}
