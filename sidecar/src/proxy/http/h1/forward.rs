//! Sending a request to a backend, and to another one where that is safe.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::{Instant, Sleep};

use super::attempt::{Answered, attempt};
use super::downstream::Downstream;
use super::exchange::{Plan, Stopped};
use super::head::ResponseHead;
use super::retry::Attempts;
use crate::cluster::{NoPick, Wish};
use crate::proxy::http::error::ProxyError;
use crate::telemetry::metrics::Outcome;
use crate::upstream::{Seat, Work};

/// A backend for an attempt, and what it goes over.
type Found = (Work, Seat);

/// Sends the request to one backend after another until one answers; `answer` is its head.
pub(super) async fn forward<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    started: Instant,
    answer: &mut ResponseHead,
) -> Result<Answered<'a>, Stopped> {
    let mut attempts = Attempts::new(&plan.decision.destination.cluster, started);
    app.wire.input.hold();
    let result = one_after_another(app, plan, &mut attempts, answer).await;
    app.wire.input.release();
    attempts.end(result.is_ok());
    result
}

async fn one_after_another<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    attempts: &mut Attempts<'_>,
    answer: &mut ResponseHead,
) -> Result<Answered<'a>, Stopped> {
    let mut found = find(app, plan, attempts).await?;
    loop {
        let (work, seat) = found;
        let backend = work.pick.backend.id;
        match attempt(app, plan, work, seat, attempts, answer).await {
            Ok(mut answered) => {
                let status = answer.view().status;
                let Some(other) = instead(app, plan, attempts, backend, status) else {
                    return Ok(answered);
                };
                let failed = status >= 500;
                let outcome = if failed { Outcome::Http5xx } else { Outcome::Success };
                answered.work.pick.outcome(outcome);
                app.wire.input.rewind();
                found = other;
            }
            Err(failure) => {
                app.wire.input.rewind();
                attempts.failed(backend, failure).await?;
                found = find(app, plan, attempts).await?;
            }
        }
    }
}

/// Picks a backend, and waits for room if there is none, or others have waited before.
async fn find(
    app: &mut Downstream,
    plan: &Plan<'_>,
    attempts: &mut Attempts<'_>,
) -> Result<Found, Stopped> {
    if attempts.is_behind() && !plan.is_bound() {
        return wait(app, plan, attempts).await;
    }
    match pick(app, plan, attempts) {
        Ok(found) => Ok(found),
        Err(NoPick::Full) => wait(app, plan, attempts).await,
        Err(none) => Err(attempts.last_or(ProxyError::from(none))),
    }
}

fn pick(app: &Downstream, plan: &Plan<'_>, attempts: &Attempts<'_>) -> Result<Found, NoPick> {
    let wish = Wish {
        key: plan.affinity.key,
        tried: &attempts.tried,
        replayable: plan.may_repeat(app) && attempts.may_follow(),
        now: attempts.now(),
    };
    // After a failure not over a connection that may have failed as well.
    plan.decision.destination.cluster.pick(wish, attempts.is_retry())
}

/// Waits in the cluster's queue, for as long as that may take; whoever gives up while waiting is
/// never sent to a backend.
async fn wait(
    app: &mut Downstream,
    plan: &Plan<'_>,
    attempts: &mut Attempts<'_>,
) -> Result<Found, Stopped> {
    let cluster = &plan.decision.destination.cluster;
    let queued = cluster.cluster.gate.as_ref().and_then(|gate| gate.queue());
    let Some(mut place) = queued else { return Err(attempts.last_or(ProxyError::Overflow)) };
    let mut limit = pin!(tokio::time::sleep_until(attempts.waits_until()));
    if !plan.is_bound() {
        patiently(app, limit.as_mut(), attempts, place.turn()).await?;
    }
    loop {
        // Asked for before the look, so that nothing is missed between the two.
        let room = place.room();
        match pick(app, plan, attempts) {
            Ok(found) => return Ok(found),
            Err(NoPick::Full) => {}
            Err(none) => return Err(attempts.last_or(ProxyError::from(none))),
        }
        patiently(app, limit.as_mut(), attempts, room).await?;
    }
}

/// Waits for something, unless the app leaves or it takes too long.
async fn patiently(
    app: &mut Downstream,
    mut limit: Pin<&mut Sleep>,
    attempts: &mut Attempts<'_>,
    what: impl Future<Output = ()>,
) -> Result<(), Stopped> {
    let mut what = pin!(what);
    poll_fn(|cx| {
        let ended = app.poll_ended(cx);
        if matches!(ended, Poll::Ready(Err(_))) {
            return Poll::Ready(Err(Stopped::AppGone));
        }
        // An end may be that of the app, or of all that it has to say; then it waits for an answer
        // still, and this is one.
        if ended.is_ready() || limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(attempts.last_or(ProxyError::Overflow)));
        }
        what.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Another backend to ask, in place of one whose answer has a status that is tried again. Without
/// one the answer stands.
fn instead(
    app: &Downstream,
    plan: &Plan<'_>,
    attempts: &mut Attempts<'_>,
    backend: u64,
    status: u16,
) -> Option<Found> {
    let wanted = attempts.is_tried_again(status) && attempts.may_follow() && plan.may_repeat(app);
    if !wanted {
        return None;
    }
    attempts.tried.push(backend);
    let mut found = pick(app, plan, attempts).ok()?;
    if !attempts.pay() {
        found.0.pick.outcome(Outcome::Unused);
        return None;
    }
    attempts.follows();
    Some(found)
}
