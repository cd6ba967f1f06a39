//! The members of a cluster, and those that were: who joins, who leaves, who comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{Backend, Shared};
use super::drain::Cause;
use super::endpoint::{Endpoint, MAX_ENDPOINTS};
use super::member::Member;
use super::snapshot::Verdict;
use crate::config;
use crate::net::Address;

/// A backend that leaves keeps its measurements and orders for this long, should it come back.
/// Below ten minutes less the exporter's own delay, after which the series of a gone backend must
/// be gone.
pub(super) const REMEMBER: Duration = Duration::from_secs(180);

#[derive(Debug, Default)]
pub(super) struct Members {
    present: BTreeMap<Address, Member>,
    departed: BTreeMap<Address, (Member, Instant)>,
    latest_id: u64,
}

/// What an answer of discovery has changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) joined: usize,
    pub(super) left: usize,
    /// Members that discovery had dropped and that were still draining.
    pub(super) returned: usize,
}

impl Members {
    /// In the order of addresses; those that drain are among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.present.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.present.values_mut()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.iter_mut().find(|member| member.backend.id == id)
    }

    /// Whether there has been anybody yet.
    pub(super) fn ever_any(&self) -> bool {
        self.latest_id > 0
    }

    /// Whether discovery's answer is what is known already.
    pub(super) fn are(&self, endpoints: &BTreeMap<Address, Endpoint>) -> bool {
        let listed = self.iter().filter(|member| !member.drains.has(Cause::Removal));
        listed.map(|member| &member.backend.endpoint).eq(endpoints.values())
    }

    /// Takes over discovery's answer. `late`: the cluster had members before, so that those who
    /// join now may need a slow start.
    pub(super) fn replace(
        &mut self,
        mut endpoints: BTreeMap<Address, Endpoint>,
        settings: &config::Cluster,
        shared: &Shared,
        late: bool,
        now: Instant,
    ) -> Change {
        let mut change = Change::default();
        for (address, member) in &mut self.present {
            match endpoints.remove(address) {
                Some(endpoint) => {
                    member.describe(endpoint);
                    change.returned += usize::from(member.drains.end(Cause::Removal));
                }
                None if member.drains.has(Cause::Removal) => {}
                None => {
                    change.left += 1;
                    let rules = &settings.drain;
                    member.leave(Cause::Removal, rules.on_removal, now + rules.timeout);
                }
            }
        }
        for (address, endpoint) in endpoints {
            change.joined += 1;
            let mut member = match self.departed.remove(&address) {
                Some((member, _)) => member.back(endpoint, now),
                None => {
                    self.latest_id += 1;
                    let backend = Backend::new(self.latest_id, endpoint, shared);
                    Member::new(backend.into(), now)
                }
            };
            let checked = settings.health.is_some();
            member.verdict = if checked { Verdict::Pending } else { Verdict::Healthy };
            member.growing_since = late.then_some(now);
            self.present.insert(address, member);
        }
        change
    }

    /// Lets those go that discovery has dropped and that are done; true when somebody went. Who has
    /// become done may be picked, for its affinity, until the snapshot that says so is out: so this
    /// comes a sweep later, and looks once more.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        let gone = |member: &Member| {
            let done = member.drains.has(Cause::Removal) && member.drains.is_done();
            done && member.backend.in_flight() == 0
        };
        if !self.iter().any(gone) {
            return false;
        }
        for (address, member) in std::mem::take(&mut self.present) {
            if gone(&member) {
                self.departed.insert(address, (member, now + REMEMBER));
            } else {
                self.present.insert(address, member);
            }
        }
        while self.departed.len() > MAX_ENDPOINTS {
            let oldest = self.departed.iter().min_by_key(|(_, (_, until))| *until);
            let Some(oldest) = oldest.map(|(address, _)| address.clone()) else { break };
            self.departed.remove(&oldest);
        }
        true
    }

    /// Forgets who has been away for long.
    pub(super) fn forget(&mut self, now: Instant) {
        self.departed.retain(|_, (_, until)| *until > now);
    }

    /// When somebody is to be forgotten.
    pub(super) fn next_forgotten(&self) -> Option<Instant> {
        self.departed.values().map(|(_, until)| *until).min()
    }
}
