//! A second backend, asked when the first is late; the first answer counts.
//!
//! It takes the edge off the slowest requests at the price of a few more (Dean and Barroso, "The
//! Tail at Scale", 2013). Only requests without a body that may be seen twice are hedged, and each
//! hedge draws on the retry budget. Whoever loses is cut off: its connection is closed.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::attempt::{Answered, Attempt, End};
use super::defect::Defect;
use super::downstream::Downstream;
use super::exchange::Plan;
use super::framing::Framing;
use super::head::ResponseHead;
use super::retry::{Attempts, Failure};
use crate::cluster::{Key, Wish};
use crate::telemetry::metrics::Outcome;
use crate::upstream::{Connection, OpenError, Work};

/// Interim answers to one request, which are not passed on: they may be of either backend.
const MAX_INTERIMS: usize = 32;

/// When a second backend is to be asked, if one is.
pub(super) fn delay(plan: &Plan<'_>, attempts: &Attempts<'_>) -> Option<Duration> {
    let after = plan.decision.destination.cluster.settings().retry.hedge_after?;
    let may_be = plan.repeatable && plan.has_no_body() && attempts.may_follow();
    may_be.then_some(after)
}

/// Waits for the answer of `first`, and after a while for that of another backend too.
pub(super) async fn race<'a>(
    app: &mut Downstream,
    plan: &'a Plan<'_>,
    first: Attempt<'a>,
    attempts: &Attempts<'_>,
    answer: &mut ResponseHead,
    after: Duration,
) -> Result<Answered<'a>, Failure> {
    let mut runners = vec![first];
    let mut second = Second::Later(Box::pin(tokio::time::sleep(after)));
    let mut interims = 0;
    loop {
        let (index, head) = poll_fn(|cx| {
            let joined = second.poll(app, plan, attempts, &runners, cx);
            runners.extend(joined);
            for (index, runner) in runners.iter_mut().enumerate() {
                if let Poll::Ready(head) = runner.poll_head(app, attempts, answer, cx) {
                    return Poll::Ready((index, head));
                }
            }
            Poll::Pending
        })
        .await;
        match head.and_then(|()| runners[index].framing(plan, answer)) {
            Ok(Some(framing)) => {
                return Ok(won(runners.swap_remove(index), framing, answer));
            }
            Ok(None) if interims < MAX_INTERIMS => interims += 1,
            Ok(None) => {
                let end = End::Defect(Defect::TooManyInterims);
                return Err(runners.swap_remove(index).failed(app, plan, end));
            }
            Err(end) => {
                let failure = runners.swap_remove(index).failed(app, plan, end);
                // The app's end, or a timeout, is everyone's.
                let over = matches!(end, End::App(_) | End::Timeout);
                if runners.is_empty() || over {
                    return Err(failure);
                }
            }
        }
    }
}

fn won<'a>(winner: Attempt<'a>, framing: Framing, answer: &ResponseHead) -> Answered<'a> {
    winner.answered(framing, &answer.view())
}

type Opening = Pin<Box<dyn Future<Output = Result<Box<Connection>, OpenError>>>>;

/// How far the second backend has come.
enum Second {
    Later(Pin<Box<Sleep>>),
    Connecting(Work, Opening),
    /// It runs, or there is none to be had.
    Done,
}

impl Second {
    fn connecting(plan: &Plan<'_>, work: Work) -> Self {
        let timeout = plan.decision.destination.cluster.settings().timeouts.connect;
        let backend = Arc::clone(&work.pick.backend);
        let opening = Box::pin(async move { Connection::open(&backend, timeout).await });
        Self::Connecting(work, opening)
    }

    /// The attempt at a second backend, once it begins.
    fn poll<'a>(
        &mut self,
        app: &Downstream,
        plan: &'a Plan<'_>,
        attempts: &Attempts<'_>,
        runners: &[Attempt<'a>],
        cx: &mut Context<'_>,
    ) -> Option<Attempt<'a>> {
        if let Self::Later(sleep) = self {
            if sleep.as_mut().poll(cx).is_pending() {
                return None;
            }
            *self = match pick(plan, attempts, runners) {
                Some(work) => Self::connecting(plan, work),
                None => Self::Done,
            };
        }
        if let Self::Connecting(_, opening) = self {
            let opened = match opening.as_mut().poll(cx) {
                Poll::Ready(opened) => opened,
                Poll::Pending => return None,
            };
            if let Self::Connecting(mut work, _) = std::mem::replace(self, Self::Done) {
                match opened {
                    Ok(connection) => {
                        return Some(Attempt::start(app, plan, work, connection, attempts));
                    }
                    Err(OpenError::Full) => {}
                    Err(OpenError::Failed(_)) => work.pick.outcome(Outcome::ConnectFailed),
                }
            }
        }
        None
    }
}

/// Another backend, if the budget allows one and there is one.
fn pick(plan: &Plan<'_>, attempts: &Attempts<'_>, runners: &[Attempt<'_>]) -> Option<Work> {
    let mut tried = attempts.tried.clone();
    tried.extend(runners.iter().map(Attempt::backend));
    let wish = Wish { key: Key::None, tried: &tried, replayable: false, now: Instant::now() };
    attempts.pay().then(|| plan.decision.destination.cluster.pick(wish).ok()).flatten()
}
