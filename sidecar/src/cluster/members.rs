//! The members of a cluster, and those that were: who joins, who leaves, who comes back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::backend::{self, Backend, Shared};
use super::drain::Cause;
use super::endpoint::{Endpoint, MAX_ENDPOINTS};
use super::member::{Maintenance, Member};
use super::order::OrderError;
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
    /// Where all of them are, by the ids of their backends.
    places: HashMap<u64, Address>,
    latest_id: u64,
}

/// What an answer of discovery has changed: the backends, by name.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) joined: Vec<Arc<str>>,
    pub(super) removed: Vec<Arc<str>>,
    /// Now suspects.
    pub(super) held: Vec<Arc<str>>,
    /// No longer suspects.
    pub(super) cleared: Vec<Arc<str>>,
    /// Members that discovery had dropped and that were still there.
    pub(super) returned: Vec<Arc<str>>,
    /// Its source says that it must not be used, or that it may be again.
    pub(super) critical: Vec<Arc<str>>,
    pub(super) usable: Vec<Arc<str>>,
    /// Its source says that somebody works on it, or no longer does.
    pub(super) maintained: Vec<Arc<str>>,
    pub(super) released: Vec<Arc<str>>,
    pub(super) weights: Vec<(Arc<str>, u32)>,
    /// Drains that have ended before they were done.
    pub(super) cancelled: u64,
}

/// How an answer of discovery is taken over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Whoever is dropped with too many others stays for so long; `None`: everyone goes at once.
    pub(super) hold: Option<Duration>,
    /// The cluster had members before, so that those who join now may need a slow start.
    pub(super) late: bool,
    pub(super) now: Instant,
}

impl Members {
    /// In the order of addresses; those that drain are among them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.present.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.present.values_mut()
    }

    /// Those too who are away and may come back.
    pub(super) fn known_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.present.values_mut().chain(self.departed.values_mut().map(|(member, _)| member))
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Member> {
        self.present.get_mut(self.places.get(&id)?)
    }

    /// The name of one that is known.
    pub(super) fn name(&self, id: u64) -> Option<&Arc<str>> {
        let place = self.places.get(&id)?;
        let departed = || self.departed.get(place).map(|(member, _)| member);
        self.present.get(place).or_else(departed).map(|member| &member.backend.name)
    }

    /// Whether there has been anybody yet.
    pub(super) fn ever_any(&self) -> bool {
        self.latest_id > 0
    }

    /// The member of this name, or the only one whose target or node is called so.
    pub(super) fn named(&self, name: &str) -> Result<u64, OrderError> {
        let backends = self.present.values().map(|member| &member.backend);
        backend::named(backends, name).map(|backend| backend.id)
    }

    /// Takes over discovery's answer.
    pub(super) fn replace(
        &mut self,
        listed: &BTreeMap<Address, Endpoint>,
        settings: &config::Cluster,
        shared: &Shared,
        terms: Terms,
    ) -> Change {
        let now = terms.now;
        let held = terms.hold.filter(|_| self.is_mass_removal(listed)).map(|hold| now + hold);
        let mut change = Change::default();
        for (address, member) in &mut self.present {
            let name = Arc::clone(&member.backend.name);
            match listed.get(address) {
                Some(endpoint) if endpoint.is_usable() || !member.is_wanted() => {
                    change.note_listed(member, endpoint);
                    member.suspicion = None;
                    if let Some(ended) = member.drains.end(Cause::Removal) {
                        change.returned.push(name);
                        change.cancelled += u64::from(ended.cancelled);
                    }
                    member.describe(endpoint, now);
                }
                // Who is gone already is not lost once more.
                _ if member.drains.has(Cause::Removal) => {}
                then => match (&member.suspicion, held) {
                    (Some(suspicion), _) if terms.hold.is_some() => {
                        member.suspect(then, suspicion.until);
                    }
                    (None, Some(until)) if member.would_be_missed() => {
                        member.suspect(then, until);
                        change.held.push(name);
                    }
                    _ => {
                        member.lose(then, &settings.drain, now);
                        let lost =
                            if then.is_some() { &mut change.critical } else { &mut change.removed };
                        lost.push(name);
                    }
                },
            }
        }
        for (address, endpoint) in listed {
            if !self.present.contains_key(address) {
                let member = self.join(endpoint, settings, shared, terms);
                change.joined.push(Arc::clone(&member.backend.name));
                self.places.insert(member.backend.id, address.clone());
                self.present.insert(address.clone(), member);
            }
        }
        for member in self.present.values_mut() {
            let names = match member.follow_maintenance(&settings.drain, now) {
                Some(Maintenance::Begun) => &mut change.maintained,
                Some(Maintenance::Over(ended)) => {
                    change.cancelled += u64::from(ended.cancelled);
                    &mut change.released
                }
                None => continue,
            };
            names.push(Arc::clone(&member.backend.name));
        }
        change
    }

    /// Whether an answer takes away more than half of three or more, or leaves nobody: then it is
    /// more likely that something is wrong with it than with them.
    fn is_mass_removal(&self, listed: &BTreeMap<Address, Endpoint>) -> bool {
        let missed = || self.present.iter().filter(|(_, member)| member.would_be_missed());
        let stays = |address: &Address| listed.get(address).is_some_and(Endpoint::is_usable);
        let (all, lost) = (missed().count(), missed().filter(|(at, _)| !stays(at)).count());
        let nobody = !listed.values().any(Endpoint::is_usable);
        lost > 0 && (nobody || all >= 3 && lost * 2 > all)
    }

    fn join(
        &mut self,
        endpoint: &Endpoint,
        settings: &config::Cluster,
        shared: &Shared,
        terms: Terms,
    ) -> Member {
        let now = terms.now;
        let mut member = match self.departed.remove(&endpoint.address) {
            Some((member, _)) => member.back(endpoint, now),
            None => {
                self.latest_id += 1;
                let backend = Backend::new(self.latest_id, endpoint.clone(), shared);
                let mut member = Member::new(backend.into(), now);
                member.describe(endpoint, now);
                member
            }
        };
        let checked = settings.health.is_some();
        member.verdict = if checked { Verdict::Pending } else { Verdict::Healthy };
        member.growing_since = terms.late.then_some(now);
        member
    }

    /// Suspects who are no longer held are gone, or critical, as discovery says.
    pub(super) fn unmask(&mut self, rules: &config::Drain, now: Instant) -> Change {
        let mut change = Change::default();
        for member in self.iter_mut().filter(|member| member.is_unmasked(now)) {
            member.unmask(rules, now);
            let is_removed = member.drains.has(Cause::Removal);
            let lost = if is_removed { &mut change.removed } else { &mut change.critical };
            lost.push(Arc::clone(&member.backend.name));
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
        self.bound_departed();
        true
    }

    /// Of those that are away the oldest are forgotten first.
    fn bound_departed(&mut self) {
        let Some(excess @ 1..) = self.departed.len().checked_sub(MAX_ENDPOINTS) else { return };
        let age = |(address, (_, until)): (&Address, &(Member, Instant))| (*until, address.clone());
        let mut by_age: Vec<_> = self.departed.iter().map(age).collect();
        by_age.sort_unstable();
        for (_, address) in by_age.into_iter().take(excess) {
            if let Some((member, _)) = self.departed.remove(&address) {
                self.places.remove(&member.backend.id);
            }
        }
    }

    /// Forgets who has been away for long.
    pub(super) fn forget(&mut self, now: Instant) {
        for (_, (member, _)) in self.departed.extract_if(.., |_, (_, until)| *until <= now) {
            self.places.remove(&member.backend.id);
        }
    }

    /// When somebody is to be forgotten.
    pub(super) fn next_forgotten(&self) -> Option<Instant> {
        self.departed.values().map(|(_, until)| *until).min()
    }
}

impl Change {
    /// Before a member that discovery lists is described anew.
    fn note_listed(&mut self, member: &Member, endpoint: &Endpoint) {
        let name = || Arc::clone(&member.backend.name);
        if member.suspicion.is_some() {
            self.cleared.push(name());
        }
        let before = &member.backend.endpoint;
        match (before.is_usable(), endpoint.is_usable()) {
            (true, false) => self.critical.push(name()),
            (false, true) => self.usable.push(name()),
            _ => {}
        }
        if before.weight != endpoint.weight {
            self.weights.push((name(), endpoint.weight));
        }
    }
}
