//! Operators: what they order of this sidecar, and of the whole fleet.

use tokio::time::{Duration, Instant};

use super::discovery::node;
use super::journal::Note;
use super::model::Model;
use super::peer::Peer;
use super::setup::{millis, one_of};
use super::world::World;
use crate::cluster::drain::Cause;
use crate::cluster::history::Kind;
use crate::cluster::{Event, FleetDrain, FleetOrder, FleetOrders, Order, What, fixture};

impl World {
    pub(super) fn order(&mut self) {
        let port = self.rng.u16(1..=self.moods.len() as u16);
        let time = self.rng.bool().then(|| millis(&mut self.rng, 0, 10_000));
        let (what, ttl) = match self.rng.u8(..8) {
            0 | 1 => (What::Drain { timeout: time }, None),
            2..=4 => (What::Resume { all: false }, None),
            5 | 6 => (What::Weight { weight: one_of(&mut self.rng, [0, 1, 3, 50]) }, time),
            _ => (What::ResetWeight { all: false }, None),
        };
        self.journal.note(match what {
            What::Drain { .. } => Note::Drain(port, time),
            What::Resume { .. } => Note::Resume(port),
            What::Weight { weight } => Note::Weight(port, Some(weight), ttl),
            What::Factor { .. } | What::ResetWeight { .. } => Note::Weight(port, None, None),
        });
        self.model.ordered(port, what, ttl, Instant::now());
        let (order, mut reply) = Order::new(name(port), what);
        self.tell(Event::Order(order.lasting(ttl)));
        // Who is unknown is said at once; who is known, with the snapshot that shows it.
        let known = self.model.peer(port).present;
        assert_eq!(matches!(reply.try_recv(), Ok(Err(_))), !known);
    }

    /// One order for the fleet is changed or goes, or all of them do.
    pub(super) fn order_fleet(&mut self) {
        let port = self.rng.u16(1..=self.moods.len() as u16 + 1);
        let name = if self.rng.u8(..3) == 0 { node(port) } else { name(port) };
        let rng = &mut self.rng;
        let timeout = rng.bool().then(|| millis(rng, 0, 10_000));
        let weight = rng.bool().then(|| one_of(rng, [0, 1, 3, 50]));
        let drain = rng.bool().then_some(FleetDrain { timeout });
        match rng.u8(..8) {
            0 => self.fleet.clear(),
            1..=3 => drop(self.fleet.remove(&name)),
            _ => drop(self.fleet.insert(name, FleetOrder { weight, drain })),
        }
        self.journal.note(Note::Fleet(self.fleet.clone()));
        self.model.fleet = self.fleet.clone();
        self.model.follow_fleet(Instant::now());
        self.tell(Event::Fleet(self.fleet.clone()));
    }
}

fn name(port: u16) -> String {
    fixture::endpoint(port, 1, 0).address.to_string()
}

impl Model {
    fn ordered(&mut self, port: u16, what: What, ttl: Option<Duration>, now: Instant) {
        let default = self.settings.drain.timeout;
        let peer = self.peer(port);
        if !peer.present {
            return;
        }
        let kind = match what {
            What::Drain { timeout } => {
                peer.begin_drain(Cause::Order, now + timeout.unwrap_or(default));
                Kind::Draining
            }
            What::Resume { .. } => {
                peer.end_drain(Cause::Order);
                Kind::Resumed
            }
            What::Weight { weight } => {
                peer.own = Some((weight, ttl.map(|ttl| now + ttl)));
                Kind::Weight
            }
            What::Factor { .. } | What::ResetWeight { .. } => {
                peer.own = None;
                Kind::Weight
            }
        };
        self.due.push((Some(port), kind));
    }

    /// Orders for the fleet hold for whoever is there, as long as they are there themselves.
    pub(super) fn follow_fleet(&mut self, now: Instant) {
        let default = self.settings.drain.timeout;
        let wanted: Vec<FleetOrder> = self.peers.iter().map(|peer| self.wanted(peer)).collect();
        for (peer, wanted) in self.peers.iter_mut().zip(wanted).filter(|(peer, _)| peer.present) {
            if wanted.drain != peer.fleet.drain {
                match wanted.drain {
                    Some(FleetDrain { timeout }) => {
                        peer.begin_drain(Cause::Fleet, now + timeout.unwrap_or(default));
                    }
                    None => peer.end_drain(Cause::Fleet),
                }
            }
            peer.fleet = wanted;
        }
    }

    /// What is ordered under its own name and, when nobody else has that, its machine's: the first
    /// in the order of names that says something.
    fn wanted(&self, peer: &Peer) -> FleetOrder {
        let is_alone = || {
            let same = |other: &&Peer| node(other.port) == node(peer.port);
            self.present().filter(same).count() == 1
        };
        let orders: &FleetOrders = &self.fleet;
        let own =
            [orders.get(&name(peer.port)), orders.get(&node(peer.port)).filter(|_| is_alone())];
        let own = || own.into_iter().flatten();
        FleetOrder {
            weight: own().find_map(|order| order.weight),
            drain: own().find_map(|order| order.drain),
        }
    }
}
