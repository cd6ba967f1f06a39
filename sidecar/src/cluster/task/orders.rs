//! What is ordered: of this sidecar, and of the whole fleet.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::ClusterTask;
use crate::cluster::drain::Cause;
use crate::cluster::fleet::{FleetOrder, FleetOrders};
use crate::cluster::history::Kind;
use crate::cluster::order::Order;
use crate::cluster::ordered::{Given, Sort};
use crate::config::OnLeaving;
use crate::telemetry::metrics::DrainResult;

impl ClusterTask {
    pub(super) fn order(&mut self, order: Order, now: Instant) {
        let default = self.cluster.settings.drain.timeout;
        let done = order.carry_out(&mut self.members, default, now);
        if let Ok(carried) = &done {
            self.note(Some(&carried.backend), carried.happened, carried.cause.clone());
            if carried.cancelled {
                self.cluster.metrics.drain(DrainResult::Cancelled).increment(1);
            }
            self.changed = true;
        }
        self.replies.add(order, done, self.changed);
    }

    /// These are all orders for the fleet now.
    pub(super) fn fleet(&mut self, orders: FleetOrders, now: Instant) {
        self.fleet = orders;
        self.follow_fleet(now);
    }

    /// Applies the orders for the fleet to the members that there are.
    pub(super) fn follow_fleet(&mut self, now: Instant) {
        let mut orders: HashMap<u64, FleetOrder> = HashMap::new();
        for (name, order) in &self.fleet {
            // Under several names of one backend may be different things.
            if let Ok(id) = self.members.named(name) {
                let all = orders.entry(id).or_default();
                *all = all.or(*order);
            }
        }
        let timeout = self.cluster.settings.drain.timeout;
        let (mut notes, mut cancelled) = (Vec::new(), 0);
        for member in self.members.iter_mut() {
            let order = orders.get(&member.backend.id).copied().unwrap_or_default();
            let before = std::mem::replace(&mut member.fleet, order);
            let name = member.backend.name.clone();
            if order.weight != before.weight {
                member.ordered.fleet = order.weight;
                let weight = order.weight.map_or("reset".into(), |weight| weight.to_string());
                notes.push((
                    name.clone(),
                    Kind::Weight,
                    format!("{weight} by order for the fleet"),
                ));
            }
            if order.drain != before.drain {
                let kind = match order.drain {
                    Some(drain) => {
                        let deadline = now + drain.timeout.unwrap_or(timeout);
                        member.leave(Cause::Fleet, OnLeaving::Drain, deadline);
                        Kind::Draining
                    }
                    None => {
                        let ended = member.drains.end(Cause::Fleet);
                        cancelled += u64::from(ended.is_some_and(|ended| ended.cancelled));
                        Kind::Resumed
                    }
                };
                notes.push((name, kind, "by order for the fleet".into()));
            }
        }
        self.changed |= !notes.is_empty();
        self.cluster.metrics.drain(DrainResult::Cancelled).increment(cancelled);
        self.note_each(notes.iter().map(|(backend, kind, cause)| (backend, *kind, cause.clone())));
    }

    /// Orders whose time is over are taken back.
    pub(super) fn expire_orders(&mut self, now: Instant) {
        let over = |given: &Given| given.until.is_some_and(|until| until <= now);
        self.take_back(over, "its time is over");
    }

    /// Nothing that names this lease holds any longer.
    pub(super) fn lease_ended(&mut self, lease: u64) {
        self.take_back(|given| given.owner.holds(lease), "the lease has ended");
        self.end_pins(|pin| pin.owner.holds(lease), "the lease has ended");
    }

    /// Of those too who are away: nothing is left of it when they are back.
    fn take_back(&mut self, over: impl Fn(&Given) -> bool, why: &str) {
        let (mut notes, mut cancelled) = (Vec::new(), 0);
        for member in self.members.known_mut() {
            let taken = member.ordered.take(&over);
            let drains = |given: &Given| given.what.sort() == Sort::Drain;
            if taken.iter().any(drains) {
                let ended = member.follow_drains();
                cancelled += u64::from(ended.is_some_and(|ended| ended.cancelled));
            }
            notes.extend(taken.iter().map(|given| {
                let kind = if drains(given) { Kind::Resumed } else { Kind::Weight };
                let cause = format!("{}: {why}", given.owner);
                (Arc::clone(&member.backend.name), kind, cause)
            }));
        }
        self.changed |= !notes.is_empty();
        self.cluster.metrics.drain(DrainResult::Cancelled).increment(cancelled);
        self.note_each(notes.iter().map(|(backend, kind, cause)| (backend, *kind, cause.clone())));
    }
}
