//! Sending a request to a backend, and to another one where that is safe.

use std::future::poll_fn;

use tokio::time::Instant;

use super::attempt::{Answered, attempt};
use super::downstream::Downstream;
use super::exchange::{Plan, Stopped};
use super::head::ResponseHead;
use super::retry::Attempts;
use crate::cluster::{NoPick, Wish};
use crate::proxy::cluster::GivesUp;
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
    let mut attempts = Attempts::new(plan.cluster(), started);
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
    let bound = plan.is_bound();
    if bound || !attempts.is_behind() {
        match pick(app, plan, attempts) {
            Ok(found) => return Ok(found),
            Err(NoPick::Full) => {}
            Err(none) => return Err(attempts.last_or(ProxyError::from(none))),
        }
    }
    let Some(mut queue) = plan.cluster().queue(bound, attempts.waits_until()) else {
        return Err(attempts.last_or(ProxyError::Overflow));
    };
    loop {
        match queue.wait(poll_fn(|cx| app.poll_ended(cx))).await {
            Ok(()) => {}
            Err(GivesUp::Left(Err(_))) => return Err(Stopped::AppGone),
            // An end may be that of the app, or of all that it has to say; then it waits for an
            // answer still, and this is one.
            Err(GivesUp::Left(Ok(())) | GivesUp::Late) => {
                return Err(attempts.last_or(ProxyError::Overflow));
            }
        }
        match pick(app, plan, attempts) {
            Ok(found) => return Ok(found),
            Err(NoPick::Full) => {}
            Err(none) => return Err(attempts.last_or(ProxyError::from(none))),
        }
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
    plan.cluster().pick(wish, attempts.is_retry())
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
