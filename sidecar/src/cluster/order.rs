//! Orders: what an operator wants of a backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::drain::Cause;
use super::history;
use super::members::Members;
use crate::config::OnLeaving;

/// An order, and where its outcome is awaited.
#[derive(Debug)]
pub struct Order {
    /// A backend's name, or a target's that only one backend has.
    backend: String,
    what: What,
    reply: Option<oneshot::Sender<Result<Carried, OrderError>>>,
}

#[derive(Debug, Clone, Copy)]
pub enum What {
    /// No new picks; what is left at the timeout, by default the configured one, is cut.
    Drain {
        timeout: Option<Duration>,
    },
    Resume,
    /// This weight instead of the one that discovery gives, for so long or until it is taken back.
    Weight {
        weight: u16,
        ttl: Option<Duration>,
    },
    ResetWeight,
}

/// An order that was carried out: picks follow it from now on.
#[derive(Debug, Clone)]
pub struct Carried {
    pub backend: Arc<str>,
    pub(super) happened: history::Kind,
    pub(super) cause: String,
    /// Whether it ended a drain that was not done.
    pub(super) cancelled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("no backend is called {0:?}")]
    Unknown(String),
    #[error("{0:?} is the name of {1} backends; use the address of one")]
    Ambiguous(String, usize),
}

impl Order {
    pub fn new(
        backend: String,
        what: What,
    ) -> (Self, oneshot::Receiver<Result<Carried, OrderError>>) {
        let (reply, outcome) = oneshot::channel();
        (Self { backend, what, reply: Some(reply) }, outcome)
    }

    pub(super) fn carry_out(
        &self,
        members: &mut Members,
        default_timeout: Duration,
        now: Instant,
    ) -> Result<Carried, OrderError> {
        let id = members.named(&self.backend)?;
        let unknown = || OrderError::Unknown(self.backend.clone());
        let member = members.get_mut(id).ok_or_else(unknown)?;
        let mut cancelled = false;
        let (happened, cause) = match self.what {
            What::Drain { timeout } => {
                let deadline = now + timeout.unwrap_or(default_timeout);
                member.leave(Cause::Order, OnLeaving::Drain, deadline);
                (history::Kind::Draining, "by order".into())
            }
            What::Resume => {
                cancelled = member.drains.end(Cause::Order).is_some_and(|ended| ended.cancelled);
                (history::Kind::Resumed, "by order".into())
            }
            What::Weight { weight, ttl } => {
                member.weights.own = Some((weight, ttl.map(|ttl| now + ttl)));
                let length = ttl.map(|ttl| format!(" for {}", humantime::format_duration(ttl)));
                let cause = format!("{weight} by order{}", length.unwrap_or_default());
                (history::Kind::Weight, cause)
            }
            What::ResetWeight => {
                member.weights.own = None;
                (history::Kind::Weight, "reset by order".into())
            }
        };
        Ok(Carried { backend: Arc::clone(&member.backend.name), happened, cause, cancelled })
    }
}

/// Replies that wait for the snapshot that shows what was ordered.
#[derive(Debug, Default)]
pub(super) struct Replies(Vec<(Order, Carried)>);

impl Replies {
    /// `changed`: whether a new snapshot is about to come.
    pub(super) fn add(&mut self, order: Order, done: Result<Carried, OrderError>, changed: bool) {
        match done {
            Ok(carried) if changed => self.0.push((order, carried)),
            done => reply(order, done),
        }
    }

    pub(super) fn send(&mut self) {
        for (order, carried) in self.0.drain(..) {
            reply(order, Ok(carried));
        }
    }
}

fn reply(order: Order, done: Result<Carried, OrderError>) {
    if let Some(reply) = order.reply {
        // Whoever asked may have gone.
        let _ = reply.send(done);
    }
}
