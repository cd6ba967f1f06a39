//! What is looked at again and again: measurements that nobody sends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{ClusterTask, eject};
use crate::cluster::history::Kind;
use crate::cluster::member::Member;
use crate::cluster::outlier::{Room, Tally};
use crate::cluster::slow_start;
use crate::cluster::snapshot::Verdict;
use crate::telemetry::metrics::{DrainResult, EjectionReason};

pub(super) const EVERY: Duration = Duration::from_millis(100);

impl ClusterTask {
    pub(super) fn sweep(&mut self, now: Instant) {
        let since = std::mem::replace(&mut self.swept, now);
        if self.members.release(now) {
            // A name that two had may be of one only now.
            self.follow_fleet(now);
            self.changed = true;
        }
        self.unmask(now);
        self.expire_orders(now);
        self.expire_pins(now);
        let ended = self.observe(now);
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
        let retry = &self.cluster.settings.retry;
        self.ledger.refill(&self.cluster.budget, retry, ended, now);
    }

    /// Looks at what backends have counted; how many attempts have ended since the last time.
    fn observe(&mut self, now: Instant) -> u64 {
        let (mut all_ended, mut answering) = (0, Vec::new());
        for member in self.members.iter_mut() {
            let (counts, failures) = (member.backend.counts(), member.backend.failures());
            let ended = member.record.observe(counts, failures, now);
            all_ended += ended;
            if ended > 0 {
                member.drains.worked();
            }
            if let Some(rules) = &self.cluster.settings.outlier {
                member.record.age(rules, now);
            }
            if member.stall.observe(counts, now) {
                answering.push(Arc::clone(&member.backend.name));
            }
        }
        self.note_all(&answering, Kind::Recovered, "it answers again");
        self.changed |= !answering.is_empty();
        all_ended
    }

    fn eject_outliers(&mut self, now: Instant) {
        let cluster = Arc::clone(&self.cluster);
        let Some(rules) = &cluster.settings.outlier else { return };
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
        let (mut room, mut ejected) = (Room::of(&self.members, rules), Vec::new());
        for member in self.members.iter_mut().filter(|member| member.is_usable()) {
            if let Some(reason) = reason(member)
                && room.is_left_for(member)
            {
                room.take(member);
                let cause = eject(&cluster, member, reason, rules, now);
                ejected.push((Arc::clone(&member.backend.name), cause));
            }
        }
        self.changed |= !ejected.is_empty();
        let notes = ejected.iter().map(|(backend, cause)| (backend, Kind::Ejected, cause.clone()));
        self.note_each(notes);
    }

    fn find_stalls(&mut self, now: Instant) {
        // The latest answer is of another whenever it came in the silence of this one.
        let answered = self.members.iter().filter_map(|member| member.stall.answered_at).max();
        let Some(answered) = answered else { return };
        let mut stalled = Vec::new();
        for member in self.members.iter_mut().filter(|member| !member.stall.stalled) {
            let stall = &mut member.stall;
            if stall.is_silent(member.backend.usual(), now) && stall.was_silent(answered) {
                stall.stalled = true;
                stalled.push(Arc::clone(&member.backend.name));
            }
        }
        self.note_all(&stalled, Kind::Stalled, "it takes work and answers none");
        self.changed |= !stalled.is_empty();
    }

    fn finish_drains(&mut self, now: Instant) {
        let mut drained = Vec::new();
        for member in self.members.iter_mut() {
            let backend = &member.backend;
            if member.drains.observe(backend.in_flight(), now) {
                let result = match backend.forced() {
                    0 => DrainResult::Completed,
                    _ => DrainResult::Forced,
                };
                self.cluster.metrics.drain(result).increment(1);
                drained.push((Arc::clone(&backend.name), backend.forced()));
            }
        }
        self.changed |= !drained.is_empty();
        self.note_each(
            drained.iter().map(|(backend, forced)| {
                (backend, Kind::Drained, format!("{forced} ended by force"))
            }),
        );
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
            // Who waits for its first verdict has not begun.
            let waits = member.verdict == Verdict::Pending;
            let grows = |since: &Instant| waits || now.duration_since(*since) < window;
            member.growing_since = member.growing_since.filter(grows);
        }
    }
}
