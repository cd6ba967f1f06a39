//! Who has given an order, and how long it holds for that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Orders of the command line and the admin API.
const ADMIN: &str = "admin";

/// Gives orders. Two are the same if they have the same lease, or without one the same name.
#[derive(Debug, Clone)]
pub struct Owner {
    pub name: Arc<str>,
    /// The lease that its orders end with; `None`: they end with their time, or when they are taken
    /// back.
    pub lease: Option<Lease>,
    /// Who it is that calls itself so, for people; empty: nobody else.
    from: Arc<str>,
}

impl Owner {
    /// Operators.
    pub fn admin() -> Self {
        Self { name: ADMIN.into(), lease: None, from: "".into() }
    }

    /// An app that calls itself `name`, and comes `from` there.
    pub fn app(name: Arc<str>, lease: Option<Lease>, from: Arc<str>) -> Self {
        Self { name, lease, from }
    }

    /// Whether its orders end with the lease of this number.
    pub(super) fn holds(&self, lease: u64) -> bool {
        self.lease.as_ref().is_some_and(|own| own.number == lease)
    }

    /// Whether its lease has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.ended.load(Ordering::Acquire))
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        let number = |owner: &Self| owner.lease.as_ref().map(|lease| lease.number);
        number(self) == number(other) && (self.lease.is_some() || self.name == other.name)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.name, &*self.from) {
            (ADMIN, "") => f.write_str("by order"),
            (name, "") => write!(f, "by order of {name}"),
            (name, from) => write!(f, "by order of {name} ({from})"),
        }
    }
}

/// What orders hold for as long as it is there. Whoever ends one says so to every cluster *after*
/// `end`: then an order that names it is either refused or ended by that.
#[derive(Debug, Clone)]
pub struct Lease {
    pub number: u64,
    ended: Arc<AtomicBool>,
}

impl Lease {
    /// Numbers must not be used twice.
    pub fn new(number: u64) -> Self {
        Self { number, ended: Arc::default() }
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}
