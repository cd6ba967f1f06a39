//! A member of a cluster, with everything that its task knows of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::backend::{Backend, ProbeReport};
use super::drain::{Cause, Cut, Drains};
use super::endpoint::Endpoint;
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
    pub(super) record: Record,
    pub(super) stall: Stall,
    pub(super) drains: Drains,
    /// Since when its share grows; `None`: it has all of it.
    pub(super) growing_since: Option<Instant>,
}

impl Member {
    pub(super) fn new(backend: Arc<Backend>, now: Instant) -> Self {
        Self {
            backend,
            verdict: Verdict::Pending,
            streak: 0,
            unhealthy_since: None,
            record: Record::new(now),
            stall: Stall::new(now),
            drains: Drains::default(),
            growing_since: None,
        }
    }

    /// What discovery says of it now.
    pub(super) fn describe(&mut self, endpoint: Endpoint) {
        if self.backend.endpoint != endpoint {
            self.backend = Arc::new(self.backend.with_endpoint(endpoint));
        }
    }

    /// It has been away, and is back with its measurements and orders.
    pub(super) fn back(mut self, endpoint: Endpoint, now: Instant) -> Self {
        self.describe(endpoint);
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
        self.verdict == Verdict::Healthy && self.record.ejection.is_none() && !self.drains.any()
    }

    pub(super) fn entry(&self, settings: &config::Cluster, now: Instant) -> Entry {
        let leaving = self.drains.leaving(settings.drain.keep_affinity, now);
        let configured = self.backend.endpoint.weight;
        let weight = match (self.growing_since, settings.slow_start) {
            (Some(since), Some(window)) => slow_start::weight(configured, since, window, now),
            _ => configured,
        };
        Entry {
            backend: Arc::clone(&self.backend),
            probe: self.verdict,
            ejection: self.record.ejection,
            on_trial: self.record.is_due(now),
            stalled: self.stall.stalled,
            cut: leaving.map_or_else(|| self.cut_while_unhealthy(&settings.drain), |l| l.cut),
            leaving,
            weight,
        }
    }

    fn cut_while_unhealthy(&self, rules: &config::Drain) -> Cut {
        match (self.unhealthy_since, rules.on_unhealthy) {
            (Some(since), OnLeaving::Drain) => Cut::At(since + rules.timeout),
            (Some(_), OnLeaving::Terminate) => Cut::Now,
            (_, OnLeaving::Keep) | (None, _) => Cut::Never,
        }
    }
}
