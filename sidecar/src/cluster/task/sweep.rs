//! What is looked at again and again: measurements that nobody sends.

use std::time::Duration;

use tokio::time::Instant;

use super::ClusterTask;
use crate::cluster::member::Member;
use crate::cluster::members::Members;
use crate::cluster::outlier::{Tally, allowance};
use crate::cluster::slow_start;
use crate::config::Outlier;
use crate::telemetry::metrics::{DrainResult, EjectionReason};

pub(super) const EVERY: Duration = Duration::from_millis(100);

impl ClusterTask {
    pub(super) fn sweep(&mut self, now: Instant) {
        let since = std::mem::replace(&mut self.swept, now);
        self.observe(now);
        self.eject_outliers(now);
        self.find_stalls(now);
        self.finish_drains(now);
        self.grow(now);
        let passed = |at: Option<Instant>| at.is_some_and(|at| since < at && at <= now);
        self.changed |= self.members.iter().any(|member| {
            // Time for a trial, or the end of affinity to a backend that drains.
            passed(member.record.ejection.map(|ejection| ejection.until))
                || passed(member.drains.deadline())
        });
        let outcomes = self.members.iter().map(|member| member.record.total().outcomes).sum();
        let retry = &self.cluster.settings.retry;
        self.ledger.refill(&self.cluster.budget, retry, outcomes, now);
    }

    fn observe(&mut self, now: Instant) {
        for member in self.members.iter_mut() {
            let (counts, failures) = (member.backend.counts(), member.backend.failures());
            member.record.observe(counts, failures, now);
            if let Some(rules) = &self.cluster.settings.outlier {
                member.record.age(rules, now);
            }
            if member.stall.observe(counts, now) {
                let (cluster, backend) = (self.cluster.name(), &member.backend.name);
                tracing::info!(cluster, %backend, "no longer stalled");
                self.changed = true;
            }
        }
    }

    fn eject_outliers(&mut self, now: Instant) {
        if self.cluster.settings.outlier.is_none() {
            return;
        }
        let judged = |member: &&Member| member.is_usable();
        let all: Tally = self.members.iter().filter(judged).map(|m| m.record.recent()).sum();
        let reason = |member: &Member| {
            let own = member.record.recent();
            match (member.backend.is_suspect(), own.is_outlier(all.since(own))) {
                (true, _) => Some(EjectionReason::Consecutive),
                (false, true) => Some(EjectionReason::SuccessRate),
                (false, false) => None,
            }
        };
        let outliers: Vec<_> = self
            .members
            .iter()
            .filter(judged)
            .filter_map(|member| Some((member.backend.id, reason(member)?)))
            .collect();
        for (id, reason) in outliers {
            self.eject(id, reason, now);
        }
    }

    fn find_stalls(&mut self, now: Instant) {
        let is_stalled = |member: &&Member| {
            let stall = &member.stall;
            !stall.stalled
                && stall.is_silent(member.backend.ewma(), now)
                && self.members.iter().any(|other| other.stall.answered_while_silent(stall))
        };
        let stalled: Vec<u64> =
            self.members.iter().filter(is_stalled).map(|member| member.backend.id).collect();
        for member in self.members.iter_mut().filter(|m| stalled.contains(&m.backend.id)) {
            member.stall.stalled = true;
            let (cluster, backend) = (self.cluster.name(), &member.backend.name);
            tracing::warn!(cluster, %backend, "stalled: it takes work and answers none");
            self.changed = true;
        }
    }

    fn finish_drains(&mut self, now: Instant) {
        for member in self.members.iter_mut() {
            let backend = &member.backend;
            if member.drains.observe(backend.in_flight(), now) {
                let result = match backend.forced() {
                    0 => DrainResult::Completed,
                    _ => DrainResult::Forced,
                };
                self.cluster.metrics.drain(result).increment(1);
                let (cluster, forced) = (self.cluster.name(), backend.forced());
                tracing::info!(cluster, backend = %backend.name, forced, "drained");
                self.changed = true;
            }
        }
    }

    fn grow(&mut self, now: Instant) {
        let window = self.cluster.settings.slow_start.unwrap_or_default();
        let growing = self.members.iter().any(|member| member.growing_since.is_some());
        if !growing || now.duration_since(self.grown) < slow_start::step(window) {
            return;
        }
        self.grown = now;
        self.changed |= !window.is_zero();
        for member in self.members.iter_mut() {
            member.growing_since =
                member.growing_since.filter(|since| now.duration_since(*since) < window);
        }
    }
}

/// Whether the backend with this id may be ejected: the share that this makes is allowed, and
/// somebody else is left.
pub(super) fn may_eject(members: &Members, id: u64, rules: &Outlier) -> bool {
    let staying = || members.iter().filter(|member| !member.drains.any());
    let others = || staying().filter(|member| member.backend.id != id);
    let known = staying().any(|member| member.backend.id == id && member.is_usable());
    let ejected = others().filter(|member| member.record.ejection.is_some()).count();
    known && ejected < allowance(rules, staying().count()) && others().any(Member::is_usable)
}
