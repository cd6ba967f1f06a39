//! Orders: what an operator or an app wants of a backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::history;
use super::member::Member;
use super::members::Members;
use super::ordered::{Given, MAX_ORDERS, Override, Sort};
use super::owner::Owner;

/// An order, and where its outcome is awaited.
#[derive(Debug)]
pub struct Order {
    /// A backend's name, or a target's that only one backend has.
    backend: String,
    what: What,
    owner: Owner,
    /// `None`: it holds until it is taken back, or as long as the owner's lease.
    ttl: Option<Duration>,
    reply: Option<oneshot::Sender<Result<Carried, OrderError>>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// No new picks; what is left at the timeout, by default the configured one, is cut.
    Drain { timeout: Option<Duration> },
    /// Ends its owner's drain, or with `all` anybody's.
    Resume { all: bool },
    /// This weight instead of the one that discovery gives.
    Weight { weight: u16 },
    /// The weight that it would have multiplied by this, in 256ths.
    Factor { factor: u32 },
    /// Takes its owner's order of weight back, or with `all` anybody's.
    ResetWeight { all: bool },
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
    #[error("the lease has ended")]
    Lease,
    #[error("{0} has orders of {MAX_ORDERS} others, as many as there may be")]
    TooMany(Arc<str>),
}

impl Order {
    /// An operator's, which holds until it is taken back.
    pub fn new(
        backend: String,
        what: What,
    ) -> (Self, oneshot::Receiver<Result<Carried, OrderError>>) {
        let (reply, outcome) = oneshot::channel();
        let owner = Owner::admin();
        (Self { backend, what, owner, ttl: None, reply: Some(reply) }, outcome)
    }

    /// The same, of this owner.
    pub fn by(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// The same, for so long.
    pub fn lasting(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    pub(super) fn carry_out(
        &self,
        members: &mut Members,
        default_timeout: Duration,
        now: Instant,
    ) -> Result<Carried, OrderError> {
        if self.owner.is_gone() {
            return Err(OrderError::Lease);
        }
        let id = members.named(&self.backend)?;
        let unknown = || OrderError::Unknown(self.backend.clone());
        let member = members.get_mut(id).ok_or_else(unknown)?;
        let owner = &self.owner;
        let mut cancelled = false;
        let (happened, cause) = match self.what {
            What::Drain { timeout } => {
                self.give(member, Override::Drain(now + timeout.unwrap_or(default_timeout)), now)?;
                member.follow_drains();
                (history::Kind::Draining, owner.to_string())
            }
            What::Resume { all } => {
                self.take(member, Sort::Drain, all);
                cancelled = member.follow_drains().is_some_and(|ended| ended.cancelled);
                (history::Kind::Resumed, owner.to_string())
            }
            What::Weight { weight } => {
                self.give(member, Override::Weight(weight), now)?;
                (history::Kind::Weight, format!("{weight} {owner}{}", self.length()))
            }
            What::Factor { factor } => {
                self.give(member, Override::Factor(factor), now)?;
                let factor = f64::from(factor) / 256.0;
                (history::Kind::Weight, format!("multiplied by {factor} {owner}{}", self.length()))
            }
            What::ResetWeight { all } => {
                self.take(member, Sort::Weight, all);
                (history::Kind::Weight, format!("reset {owner}"))
            }
        };
        Ok(Carried { backend: Arc::clone(&member.backend.name), happened, cause, cancelled })
    }

    fn give(&self, member: &mut Member, what: Override, now: Instant) -> Result<(), OrderError> {
        let until = self.ttl.map(|ttl| now + ttl);
        match member.ordered.give(Given { owner: self.owner.clone(), what, until }) {
            true => Ok(()),
            false => Err(OrderError::TooMany(Arc::clone(&member.backend.name))),
        }
    }

    fn take(&self, member: &mut Member, sort: Sort, all: bool) {
        member
            .ordered
            .take(|given| given.what.sort() == sort && (all || given.owner == self.owner));
    }

    fn length(&self) -> String {
        let length = self.ttl.map(|ttl| format!(" for {}", humantime::format_duration(ttl)));
        length.unwrap_or_default()
    }
}

/// Replies that wait for the snapshot that shows what was ordered.
#[derive(Debug, Default)]
pub(super) struct Replies {
    carried: Vec<(Order, Carried)>,
    awaited: Vec<oneshot::Sender<()>>,
}

impl Replies {
    /// `changed`: whether a new snapshot is about to come.
    pub(super) fn add(&mut self, order: Order, done: Result<Carried, OrderError>, changed: bool) {
        match done {
            Ok(carried) if changed => self.carried.push((order, carried)),
            done => reply(order, done),
        }
    }

    pub(super) fn add_await(&mut self, shown: oneshot::Sender<()>, changed: bool) {
        self.awaited.push(shown);
        if !changed {
            self.send();
        }
    }

    pub(super) fn send(&mut self) {
        for (order, carried) in self.carried.drain(..) {
            reply(order, Ok(carried));
        }
        for shown in self.awaited.drain(..) {
            // Whoever asked may have gone.
            let _ = shown.send(());
        }
    }
}

fn reply(order: Order, done: Result<Carried, OrderError>) {
    if let Some(reply) = order.reply {
        // Whoever asked may have gone.
        let _ = reply.send(done);
    }
}
