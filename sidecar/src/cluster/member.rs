//! A member of a cluster, with everything that its task knows of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::backend::{Backend, ProbeReport};
use super::drain::{Cause, Cut, Drains, Ended};
use super::endpoint::{Endpoint, Reported};
use super::fleet::FleetOrder;
use super::ordered::Ordered;
use super::outlier::Record;
use super::slow_start;
use super::snapshot::{Entry, Verdict};
use super::stall::Stall;
use crate::config::{self, Health, OnLeaving};

#[derive(Debug)]
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    pub(super) verdict: Verdict,
    /// Probes in a row that speak against the verdict.
    streak: u16,
    /// Since when it has failed its probes.
    unhealthy_since: Option<Instant>,
    /// Since when its source says that it must not be used.
    critical_since: Option<Instant>,
    /// Discovery has dropped it, and is not believed yet.
    pub(super) suspicion: Option<Suspicion>,
    pub(super) record: Record,
    pub(super) stall: Stall,
    pub(super) drains: Drains,
    /// Since when its share grows; `None`: it has all of it.
    pub(super) growing_since: Option<Instant>,
    /// What is ordered of it.
    pub(super) ordered: Ordered,
    /// What is ordered of it for the whole fleet.
    pub(super) fleet: FleetOrder,
}

/// Discovery has dropped a member together with too many others.
#[derive(Debug, Clone)]
pub(super) struct Suspicion {
    /// When it goes even so.
    pub(super) until: Instant,
    /// What discovery says of it, unless it says nothing.
    then: Option<Endpoint>,
}

/// What has become of a maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maintenance {
    Begun,
    Over(Ended),
}

impl Member {
    pub(super) fn new(backend: Arc<Backend>, now: Instant) -> Self {
        Self {
            backend,
            verdict: Verdict::Pending,
            streak: 0,
            unhealthy_since: None,
            critical_since: None,
            suspicion: None,
            record: Record::new(now),
            stall: Stall::new(now),
            drains: Drains::default(),
            growing_since: None,
            ordered: Ordered::default(),
            fleet: FleetOrder::default(),
        }
    }

    /// What discovery says of it now.
    pub(super) fn describe(&mut self, endpoint: &Endpoint, now: Instant) {
        if self.backend.endpoint != *endpoint {
            self.backend = Arc::new(self.backend.with_endpoint(endpoint.clone()));
        }
        match (self.critical_since, endpoint.is_usable()) {
            (None, false) => self.critical_since = Some(now),
            (Some(_), true) => {
                self.critical_since = None;
                self.recovered(now);
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Drains it for as long as its source says that somebody works on it.
    pub(super) fn follow_maintenance(
        &mut self,
        rules: &config::Drain,
        now: Instant,
    ) -> Option<Maintenance> {
        let wanted = self.backend.endpoint.reported == Reported::Maintenance;
        match (wanted, self.drains.has(Cause::Maintenance)) {
            (true, false) => {
                self.leave(Cause::Maintenance, OnLeaving::Drain, now + rules.timeout);
                Some(Maintenance::Begun)
            }
            (false, true) => self.drains.end(Cause::Maintenance).map(Maintenance::Over),
            (true, true) | (false, false) => None,
        }
    }

    /// Whether its source has nothing against using it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.drains.has(Cause::Removal) && self.critical_since.is_none()
    }

    /// Whether it would be missed: it is wanted, and not about to leave anyway.
    pub(super) fn would_be_missed(&self) -> bool {
        self.is_wanted() && !self.drains.any()
    }

    /// Discovery has dropped it, or with `then` says that it must not be used, but is not believed
    /// until then.
    pub(super) fn suspect(&mut self, then: Option<&Endpoint>, until: Instant) {
        self.suspicion = Some(Suspicion { until, then: then.cloned() });
    }

    /// Whether what discovery says is to be believed after all: time is up, or there is more
    /// against it.
    pub(super) fn is_unmasked(&self, now: Instant) -> bool {
        let doubted = self.verdict == Verdict::Unhealthy || self.record.ejection.is_some();
        self.suspicion.as_ref().is_some_and(|suspicion| doubted || suspicion.until <= now)
    }

    /// Believes what discovery says of it: `None` that it is gone.
    pub(super) fn lose(&mut self, then: Option<&Endpoint>, rules: &config::Drain, now: Instant) {
        self.suspicion = None;
        match then {
            Some(endpoint) => self.describe(endpoint, now),
            None => self.leave(Cause::Removal, rules.on_removal, now + rules.timeout),
        }
    }

    /// The end of a suspicion that was right.
    pub(super) fn unmask(&mut self, rules: &config::Drain, now: Instant) {
        if let Some(suspicion) = self.suspicion.take() {
            self.lose(suspicion.then.as_ref(), rules, now);
        }
    }

    /// It has been away, and is back with its measurements and orders.
    pub(super) fn back(mut self, endpoint: &Endpoint, now: Instant) -> Self {
        self.describe(endpoint, now);
        self.drains.end(Cause::Removal);
        (self.streak, self.unhealthy_since) = (0, None);
        self.recovered(now);
        self
    }

    /// Begins to drain it.
    pub(super) fn leave(&mut self, cause: Cause, how: OnLeaving, deadline: Instant) {
        if !self.drains.any() {
            self.backend.forget_forced();
        }
        self.drains.begin(cause, how, deadline);
    }

    /// Drains it, or no longer, as the orders for this sidecar say.
    pub(super) fn follow_drains(&mut self) -> Option<Ended> {
        match self.ordered.drain_deadline() {
            Some(deadline) => {
                self.leave(Cause::Order, OnLeaving::Drain, deadline);
                None
            }
            None => self.drains.end(Cause::Order),
        }
    }

    /// Takes in a probe; true when it changes the verdict.
    pub(super) fn probed(&mut self, report: &ProbeReport, health: &Health, now: Instant) -> bool {
        let passed = report.result.is_ok();
        let needed = match (self.verdict, passed) {
            (Verdict::Healthy, true) | (Verdict::Unhealthy, false) => None,
            (Verdict::Pending, _) => Some(1),
            (Verdict::Unhealthy, true) => Some(health.rise),
            (Verdict::Healthy, false) => Some(health.fall),
        };
        self.streak = if needed.is_some() { self.streak + 1 } else { 0 };
        let changes = needed.is_some_and(|needed| self.streak >= needed);
        if changes {
            match self.verdict {
                Verdict::Unhealthy => self.recovered(now),
                // A slow start begins with the first traffic.
                Verdict::Pending if self.growing_since.is_some() => self.growing_since = Some(now),
                Verdict::Pending | Verdict::Healthy => {}
            }
            self.verdict = if passed { Verdict::Healthy } else { Verdict::Unhealthy };
            self.unhealthy_since = (!passed).then_some(now);
            self.streak = 0;
        }
        changes
    }

    /// It is as good as new: what traffic showed of it was of the time before.
    pub(super) fn recovered(&mut self, now: Instant) {
        self.record.restore(now);
        self.backend.forgive();
        self.growing_since = Some(now);
    }

    /// Whether nothing but a stall is against it, so that it could be left as the only one.
    pub(super) fn is_usable(&self) -> bool {
        self.verdict == Verdict::Healthy
            && self.critical_since.is_none()
            && self.record.ejection.is_none()
            && !self.drains.any()
    }

    pub(super) fn entry(&self, settings: &config::Cluster, now: Instant) -> Entry {
        let leaving = self.drains.leaving(settings.drain.keep_affinity, now);
        let assigned = self.ordered.assigned(self.backend.endpoint.weight);
        let weight = match (self.growing_since, settings.slow_start) {
            (Some(since), Some(window)) => slow_start::weight(assigned, since, window, now),
            _ => assigned,
        };
        Entry {
            backend: Arc::clone(&self.backend),
            probe: self.verdict,
            ejection: self.record.ejection,
            on_trial: self.record.is_due(now),
            stalled: self.stall.stalled,
            cut: leaving.map_or_else(|| self.cut_while_unhealthy(&settings.drain), |l| l.cut),
            leaving,
            suspect_until: self.suspicion.as_ref().map(|suspicion| suspicion.until),
            ordered: self.ordered.clone(),
            assigned,
            weight,
        }
    }

    fn cut_while_unhealthy(&self, rules: &config::Drain) -> Cut {
        let since = [self.unhealthy_since, self.critical_since].into_iter().flatten().min();
        match (since, rules.on_unhealthy) {
            (Some(since), OnLeaving::Drain) => Cut::At(since + rules.timeout),
            (Some(_), OnLeaving::Terminate) => Cut::Now,
            (_, OnLeaving::Keep) | (None, _) => Cut::Never,
        }
    }
}
