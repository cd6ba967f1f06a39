//! Who gives orders: operators, apps, and apps whose orders end with a lease.

use tokio::time::Instant;

use super::journal::Note;
use super::model::Model;
use super::setup::{millis, one_of};
use super::world::World;
use crate::cluster::{self, Event, Lease, OrderError, fixture};

/// Leases that hold at a time, at most.
const LEASES: usize = 3;
const ADMIN: &str = "admin";

/// Whoever has a lease is nobody else, whatever it calls itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    name: &'static str,
    pub(super) lease: Option<u64>,
}

impl Owner {
    pub(super) fn is(self, found: &cluster::Owner) -> bool {
        let lease = found.lease.as_ref().map(|lease| lease.number);
        (self.name, self.lease) == (&*found.name, lease)
    }

    /// Whether what it orders must have an end of its own.
    pub(super) fn needs_time(self) -> bool {
        self.name != ADMIN && self.lease.is_none()
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        match (self.lease, other.lease) {
            (None, None) => self.name == other.name,
            (own, other) => own == other,
        }
    }
}

/// Leases that hold, or have held lately, and ends that the cluster has not heard of.
#[derive(Debug, Default)]
pub(super) struct Leases {
    latest: Vec<Lease>,
    count: u64,
    unheard: Vec<(Instant, u64)>,
}

impl World {
    /// Somebody, and how the cluster is told of it.
    pub(super) fn draw_owner(&mut self) -> (Owner, cluster::Owner) {
        let lease = self.rng.choice(&self.leases.latest).cloned();
        let lease = lease.filter(|_| self.rng.bool());
        if lease.is_none() && self.rng.u8(..3) == 0 {
            return (Owner { name: ADMIN, lease: None }, cluster::Owner::admin());
        }
        let name = one_of(&mut self.rng, ["cart", "shop"]);
        let from = one_of(&mut self.rng, ["", "uid 1000"]);
        let owner = Owner { name, lease: lease.as_ref().map(|lease| lease.number) };
        (owner, cluster::Owner::app(name.into(), lease, from.into()))
    }

    /// A lease begins, or ends; the cluster hears of an end at once, or later.
    pub(super) fn change_lease(&mut self) {
        let place = self.rng.usize(..LEASES);
        let held = self.leases.latest.get(place);
        match held.filter(|lease| !self.model.ended.contains(&lease.number)) {
            Some(lease) => {
                lease.end();
                let number = lease.number;
                self.model.ended.insert(number);
                let delay = if self.rng.bool() { 0 } else { 3_000 };
                let heard = Instant::now() + millis(&mut self.rng, 0, delay);
                self.leases.unheard.push((heard, number));
            }
            None => {
                self.leases.count += 1;
                self.journal.note(Note::Lease(self.leases.count));
                let lease = Lease::new(self.leases.count);
                match self.leases.latest.get_mut(place) {
                    Some(ended) => *ended = lease,
                    None => self.leases.latest.push(lease),
                }
            }
        }
    }

    /// Tells the cluster which leases have ended.
    pub(super) fn end_leases(&mut self) {
        let now = Instant::now();
        let heard: Vec<_> = self.leases.unheard.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, lease) in heard {
            self.journal.note(Note::LeaseEnded(lease));
            self.end_orders(lease);
            self.end_pins(lease);
            self.tell(Event::LeaseEnded(lease));
        }
    }

    fn end_orders(&mut self, lease: u64) {
        for peer in &mut self.model.peers {
            for ended in peer.take(|given| given.owner.lease == Some(lease)) {
                self.model.due.push((Some(peer.port), ended.end()));
                let note = if peer.present { Note::Revoked } else { Note::RevokedAway };
                self.journal.note(note(peer.port));
            }
        }
    }
}

impl Model {
    /// Why nothing that concerns this backend is taken from this owner.
    pub(super) fn refusal(&self, owner: Owner, port: u16) -> Option<OrderError> {
        let has_ended = owner.lease.is_some_and(|lease| self.ended.contains(&lease));
        let is_present = self.present().any(|peer| peer.port == port);
        match (has_ended, is_present) {
            (true, _) => Some(OrderError::Lease),
            (false, false) => Some(OrderError::Unknown(name(port))),
            (false, true) => None,
        }
    }
}

/// What the cluster calls a backend.
pub(super) fn name(port: u16) -> String {
    fixture::endpoint(port, 1, 0).address.to_string()
}
