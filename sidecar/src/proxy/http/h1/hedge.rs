//! A second backend, asked when the first is late; the first answer counts.
//!
//! It takes the edge off the slowest requests at the price of a few more (Dean and Barroso, "The
//! Tail at Scale", 2013). Only requests without a body that may be seen twice are hedged, and each
//! hedge draws on the retry budget. Whoever loses is cut off: its connection is closed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::attempt::{Answered, Attempt, End, MAX_INTERIMS};
use super::defect::Defect;
use super::downstream::Downstream;
use super::exchange::Plan;
use super::head::ResponseHead;
use super::retry::{Attempts, Failure};
use crate::cluster::{Key, Wish};
use crate::net::dial::Patience;
use crate::telemetry::metrics::Outcome;
use crate::upstream::{Connection, Seat, Work};

/// When a second backend is to be asked, if one is.
pub(super) fn delay(
    plan: &Plan<'_>,
    first: &Attempt<'_>,
    attempts: &Attempts<'_>,
) -> Option<Duration> {
    let after = plan.cluster().settings().retry.hedge_after?;
    let harmless = plan.repeatable && plan.has_no_body() && !(first.belongs() && is_kept(plan));
    (harmless && attempts.may_follow()).then_some(after)
}

/// Whether the client would be lost to a second backend: that would keep it from then on, but for
/// a hashed key, which leads to the first one again.
fn is_kept(plan: &Plan<'_>) -> bool {
    let strict = plan.cluster().settings().affinity.strict;
    strict || !matches!(plan.affinity.key, Key::Hashed(_))
}

/// Waits for the answer of `first`, and after a while for that of another backend too.
pub(super) async fn race<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    first: Attempt<'a>,
    attempts: &mut Attempts<'_>,
    answer: &mut ResponseHead,
    after: Duration,
) -> Result<Answered<'a>, Failure> {
    let mut runners = vec![first];
    let mut second = Second::Later(Box::pin(tokio::time::sleep(after)));
    // They are not passed on: they may be of either backend.
    let mut interims = 0;
    loop {
        let (index, head) = poll_fn(|cx| {
            runners.extend(second.poll(app, plan, attempts, &runners, cx));
            for (index, runner) in runners.iter_mut().enumerate() {
                if let Poll::Ready(head) = runner.poll_head(app, plan, attempts, answer, cx) {
                    return Poll::Ready((index, head));
                }
            }
            Poll::Pending
        })
        .await;
        let end = match head.and_then(|()| runners[index].framing(plan, answer)) {
            Ok(Some(framing)) => {
                let first = runners.swap_remove(index).answered(framing, &answer.view());
                if let Some(account) = plan.account {
                    account.answered(&first.work.pick.backend.name);
                }
                return Ok(first);
            }
            Ok(None) if interims < MAX_INTERIMS => {
                interims += 1;
                continue;
            }
            Ok(None) => End::Defect(Defect::TooManyInterims),
            Err(end) => end,
        };
        let ended = runners.swap_remove(index);
        let backend = ended.backend();
        let failure = ended.failed(app, plan, end);
        // The app's end, or a timeout, is everyone's.
        if runners.is_empty() || matches!(end, End::App(_) | End::Timeout) {
            return Err(failure);
        }
        attempts.tried.push(backend);
    }
}

type Opening = Pin<Box<dyn Future<Output = io::Result<Box<Connection>>>>>;

/// How far the second backend has come.
enum Second {
    Later(Pin<Box<Sleep>>),
    Connecting(Work, Opening),
    /// It runs, or there is none to be had.
    Done,
}

impl Second {
    /// The attempt at a second backend, once it begins.
    fn poll<'a>(
        &mut self,
        app: &Downstream,
        plan: &'a Plan<'_>,
        attempts: &mut Attempts<'_>,
        runners: &[Attempt<'a>],
        cx: &mut Context<'_>,
    ) -> Option<Attempt<'a>> {
        if let Self::Later(sleep) = self {
            if sleep.as_mut().poll(cx).is_pending() {
                return None;
            }
            let cluster = Arc::clone(&plan.cluster().cluster);
            *self = match pick(plan, attempts, runners) {
                Some((work, seat)) => {
                    let patience = Some(Patience::Short);
                    let opening = async move { seat.connect(&cluster, patience, &[]).await };
                    Self::Connecting(work, Box::pin(opening))
                }
                None => Self::Done,
            };
        }
        let Self::Connecting(_, opening) = self else { return None };
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return None };
        let Self::Connecting(mut work, _) = std::mem::replace(self, Self::Done) else {
            return None;
        };
        match opened {
            // Both have what is left of the time that the first one began with.
            Ok(connection) => {
                Some(Attempt::start(app, plan, work, connection, attempts.patience()))
            }
            Err(_) => {
                work.pick.outcome(Outcome::ConnectFailed);
                None
            }
        }
    }
}

/// Another backend, if there is one and the budget allows it.
fn pick(
    plan: &Plan<'_>,
    attempts: &mut Attempts<'_>,
    runners: &[Attempt<'_>],
) -> Option<(Work, Seat)> {
    let mut tried = attempts.tried.clone();
    tried.extend(runners.iter().map(Attempt::backend));
    let wish = Wish { key: Key::None, tried: &tried, replayable: false, now: Instant::now() };
    let (mut work, seat) = plan.cluster().pick(wish, false).ok()?;
    if !attempts.pay() {
        work.pick.outcome(Outcome::Unused);
        return None;
    }
    attempts.follows();
    plan.asks(&work, attempts);
    Some((work, seat))
}
