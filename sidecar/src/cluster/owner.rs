//! Who has given an order, and how long it holds for that.

use std::fmt;
use std::sync::Arc;

/// Orders of the command line and the admin API.
const ADMIN: &str = "admin";

/// Gives orders. Two are the same if they have the same lease, or without one the same name.
#[derive(Debug, Clone)]
pub struct Owner {
    pub name: Arc<str>,
    /// The lease that its orders end with; `None`: they end with their time, or when they are taken
    /// back.
    pub lease: Option<u64>,
    /// Who it is that calls itself so, for people; empty: nobody else.
    from: Arc<str>,
}

impl Owner {
    /// Operators.
    pub fn admin() -> Self {
        Self { name: ADMIN.into(), lease: None, from: "".into() }
    }

    /// An app that calls itself `name`, and comes `from` there.
    pub fn app(name: Arc<str>, lease: Option<u64>, from: Arc<str>) -> Self {
        Self { name, lease, from }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.lease == other.lease && (self.lease.is_some() || self.name == other.name)
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
