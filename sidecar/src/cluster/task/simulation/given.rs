//! What is ordered of a backend here, and what its weight and its drain come to by that.

use tokio::time::Instant;

use super::journal::Note;
use super::owners::Owner;
use super::peer::{Peer, SWEEP};
use super::world::World;
use crate::cluster::drain::Cause;
use crate::cluster::history::Kind;
use crate::cluster::{self, Ordered, Override};

/// No order makes a weight greater, in 256ths.
const MOST: u64 = 65_535 * 256;

/// An order that holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) owner: Owner,
    pub(super) what: Override,
    pub(super) until: Option<Instant>,
}

impl Given {
    /// The others are about weights.
    pub(super) fn drains(&self) -> bool {
        matches!(self.what, Override::Drain(_))
    }

    /// What is noted when it ends.
    pub(super) fn end(&self) -> Kind {
        if self.drains() { Kind::Resumed } else { Kind::Weight }
    }

    fn is(&self, found: &cluster::Given) -> bool {
        self.owner.is(&found.owner) && (self.what, self.until) == (found.what, found.until)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Peer {
    /// An owner has one order of a kind.
    pub(super) fn give(&mut self, given: Given) {
        let replaced = |old: &Given| old.owner == given.owner && old.drains() == given.drains();
        self.own.retain(|old| !replaced(old));
        self.own.push(given);
        self.drain_by_order();
    }

    /// What was taken back.
    pub(super) fn take(&mut self, taken: impl Fn(&Given) -> bool) -> Vec<Given> {
        let (out, kept) = std::mem::take(&mut self.own).into_iter().partition(taken);
        self.own = kept;
        self.drain_by_order();
        out
    }

    /// Until the first of the deadlines that somebody has ordered.
    fn drain_by_order(&mut self) {
        let deadline = |given: &Given| match given.what {
            Override::Drain(deadline) => Some(deadline),
            Override::Weight(_) | Override::Factor(_) => None,
        };
        match self.own.iter().filter_map(deadline).min() {
            Some(deadline) => self.begin_drain(Cause::Order, deadline),
            None => self.end_drain(Cause::Order),
        }
    }

    /// In 256ths: the latest order here comes before what is ordered everywhere, and that before
    /// what is discovered; factors multiply what comes out, and leave something of it unless they
    /// are 0.
    pub(super) fn weight(&self) -> u32 {
        let (mut latest, mut factors) = (None, Vec::new());
        for given in &self.own {
            match given.what {
                Override::Weight(weight) => latest = Some(weight),
                Override::Factor(factor) => factors.push(u64::from(factor)),
                Override::Drain(_) => {}
            }
        }
        let whole = latest.or(self.fleet.weight).map_or(self.told.weight, u32::from) * 256;
        let product = factors.into_iter().fold(u64::from(whole), |weight, factor| {
            let product = weight * factor;
            (product / 256).max(product.min(1)).min(MOST)
        });
        product as u32
    }

    /// Whether these are its orders.
    pub(super) fn is_ordered(&self, found: &Ordered) -> bool {
        let found = found.own();
        self.own.len() == found.len() && self.own.iter().zip(found).all(|(own, it)| own.is(it))
    }
}

impl World {
    /// An order ends with its time, which is looked at every now and then, and not sooner.
    pub(super) fn judge_orders(&mut self, at: usize, found: &Ordered, looked: bool) {
        let now = Instant::now();
        let peer = &mut self.model.peers[at];
        let port = peer.port;
        let is_gone = |given: &Given| !found.own().iter().any(|it| given.is(it));
        if looked {
            for ended in peer.take(|given| given.is_over(now) && is_gone(given)) {
                self.model.due.push((Some(port), ended.end()));
                let note = if peer.present { Note::Expired } else { Note::ExpiredAway };
                self.journal.note(note(port));
            }
        }
        assert!(peer.is_ordered(found), "{port}: {:?}, not {:?}", found.own(), peer.own);
        let late = |given: &&Given| given.until.is_some_and(|until| until + SWEEP < now);
        assert!(!peer.own.iter().any(|given| late(&given)), "{port}: {:?} is late", peer.own);
    }
}
