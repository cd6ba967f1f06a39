//! Sending a request to a backend, and to another one where that is safe.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::Instant;

use super::attempt::{Answered, attempt};
use super::downstream::Downstream;
use super::exchange::{Plan, Stopped};
use super::head::ResponseHead;
use super::retry::{Again, Attempts, Failure};
use crate::cluster::{NoPick, Wish};
use crate::proxy::http::error::ProxyError;
use crate::telemetry::metrics::Outcome;
use crate::upstream::Work;

/// Sends the request to one backend after another until one answers; `answer` is its head.
pub(super) async fn forward<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    started: Instant,
    answer: &mut ResponseHead,
) -> Result<Answered<'a>, Stopped> {
    let mut attempts = Attempts::new(&plan.decision.destination.cluster, started);
    app.wire.input.hold();
    let result = loop {
        let work = match find(app, plan, &mut attempts).await {
            Ok(work) => work,
            Err(stopped) => break Err(stopped),
        };
        let backend = work.pick.backend.id;
        let failure = match attempt(app, plan, work, &attempts, answer).await {
            Ok(answered) if rejected(app, plan, &attempts, answer) => reject(answered),
            Ok(answered) => break Ok(answered),
            Err(failure) => failure,
        };
        app.wire.input.rewind();
        if let Err(stopped) = attempts.failed(backend, failure).await {
            break Err(stopped);
        }
    };
    app.wire.input.release();
    attempts.end(result.is_ok());
    result
}

/// Picks a backend, and waits for room if there is none.
async fn find(
    app: &mut Downstream,
    plan: &Plan<'_>,
    attempts: &mut Attempts<'_>,
) -> Result<Work, Stopped> {
    let picked = match pick(plan, attempts, &attempts.tried) {
        // A closed connection to the only backend: a new one may do.
        Err(NoPick::NoEligibleBackend) if attempts.is_retry() && attempts.is_untried() => {
            pick(plan, attempts, &[])
        }
        picked => picked,
    };
    match picked {
        Ok(work) => Ok(work),
        Err(NoPick::Full) => wait(app, plan, attempts).await,
        Err(NoPick::NoEligibleBackend) if attempts.crowded => wait(app, plan, attempts).await,
        Err(none) => Err(attempts.last_or(ProxyError::from(none))),
    }
}

fn pick(plan: &Plan<'_>, attempts: &Attempts<'_>, tried: &[u64]) -> Result<Work, NoPick> {
    plan.decision.destination.cluster.pick(Wish {
        key: plan.affinity.key,
        tried,
        replayable: plan.repeatable && attempts.may_follow(),
        now: attempts.now(),
    })
}

/// Waits in the cluster's queue, for as long as that may take; whoever gives up while waiting is
/// never sent to a backend.
async fn wait(
    app: &mut Downstream,
    plan: &Plan<'_>,
    attempts: &mut Attempts<'_>,
) -> Result<Work, Stopped> {
    let cluster = &plan.decision.destination.cluster;
    let overflow = ProxyError::Overflow;
    let queued = cluster.cluster.gate.as_ref().and_then(|gate| gate.queue());
    let Some(waiting) = queued else { return Err(attempts.last_or(overflow)) };
    let mut limit = pin!(tokio::time::sleep_until(attempts.waits_until()));
    attempts.tried.clear();
    // Whether there is room for a connection only shows when one is opened.
    let mut look = !std::mem::take(&mut attempts.crowded);
    loop {
        if look {
            match pick(plan, attempts, &[]) {
                Ok(work) => return Ok(work),
                Err(NoPick::Full) => {}
                Err(none) => return Err(attempts.last_or(ProxyError::from(none))),
            }
        }
        look = true;
        let mut room = pin!(waiting.room());
        poll_fn(|cx| {
            if app.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Stopped::AppGone));
            }
            if room.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            limit.as_mut().poll(cx).map(|()| Err(attempts.last_or(overflow)))
        })
        .await?;
    }
}

/// Whether an answer is one on which another backend is asked.
fn rejected(
    app: &mut Downstream,
    plan: &Plan<'_>,
    attempts: &Attempts<'_>,
    answer: &ResponseHead,
) -> bool {
    plan.repeatable
        && (plan.has_no_body() || app.wire.input.holds())
        && attempts.rejects(answer.view().status)
}

fn reject(mut answered: Answered<'_>) -> Failure {
    answered.work.pick.outcome(Outcome::Http5xx);
    Failure { stopped: ProxyError::Reset.into(), again: Again::Paid }
}
