//! What is ordered of this sidecar, and of the whole fleet.

use tokio::time::{Duration, Instant};

use super::discovery::node;
use super::given::Given;
use super::journal::Note;
use super::model::Model;
use super::owners::{Owner, name};
use super::peer::Peer;
use super::setup::{millis, one_of};
use super::world::World;
use crate::cluster::drain::Cause;
use crate::cluster::history::Kind;
use crate::cluster::{Event, FleetDrain, FleetOrder, FleetOrders, Order, Override, What};

impl World {
    pub(super) fn order(&mut self) {
        let port = self.rng.u16(1..=self.moods.len() as u16);
        let (owner, told) = self.draw_owner();
        let what = self.draw_order();
        let takes = matches!(what, What::Resume { .. } | What::ResetWeight { .. });
        let ttl = self.draw_ttl(owner).filter(|_| !takes);
        self.journal.note(Note::Order { port, owner, what, ttl });
        let refusal = self.model.refusal(owner, port);
        match refusal {
            Some(_) => self.journal.note(Note::Refused),
            None => self.model.ordered(port, owner, what, ttl, Instant::now()),
        }
        let (order, mut reply) = Order::new(name(port), what);
        self.tell(Event::Order(order.by(told).lasting(ttl)));
        // Who is refused is told at once; who is not, with the snapshot that shows it.
        let found = reply.try_recv().ok().and_then(Result::err);
        assert_eq!(found, refusal);
    }

    fn draw_order(&mut self) -> What {
        let rng = &mut self.rng;
        let all = rng.u8(..4) == 0;
        match rng.u8(..10) {
            0 | 1 => What::Drain { timeout: rng.bool().then(|| millis(rng, 0, 10_000)) },
            2..=4 => What::Resume { all },
            5 | 6 => What::Weight { weight: one_of(rng, [0, 1, 3, 50]) },
            7 | 8 => What::Factor { factor: one_of(rng, [0, 1, 64, 128, 384, 1_024]) },
            _ => What::ResetWeight { all },
        }
    }

    /// How long an order holds; `None`: until it is taken back, or its lease ends.
    pub(super) fn draw_ttl(&mut self, owner: Owner) -> Option<Duration> {
        let most = one_of(&mut self.rng, [10_000, 10_000, 200_000]);
        let ends = owner.needs_time() || self.rng.bool();
        ends.then(|| millis(&mut self.rng, 0, most))
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

impl Model {
    fn ordered(
        &mut self,
        port: u16,
        owner: Owner,
        what: What,
        ttl: Option<Duration>,
        now: Instant,
    ) {
        let default = self.settings.drain.timeout;
        let peer = self.peer(port);
        let given = |what: Override| Given { owner, what, until: ttl.map(|ttl| now + ttl) };
        let may_take = |given: &Given, all: bool| all || given.owner == owner;
        let kind = match what {
            What::Drain { timeout } => {
                peer.give(given(Override::Drain(now + timeout.unwrap_or(default))));
                Kind::Draining
            }
            What::Weight { weight } => {
                peer.give(given(Override::Weight(weight)));
                Kind::Weight
            }
            What::Factor { factor } => {
                peer.give(given(Override::Factor(factor)));
                Kind::Weight
            }
            What::Resume { all } => {
                peer.take(|given| given.drains() && may_take(given, all));
                Kind::Resumed
            }
            What::ResetWeight { all } => {
                peer.take(|given| !given.drains() && may_take(given, all));
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
