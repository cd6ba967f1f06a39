//! Passive judgement: who is ejected for what real traffic showed, and for how long.
//!
//! A share is always stated in backends and computed with the ejection that is being considered:
//! `max(1, floor(max_ejected × n))` may be ejected at a time, and never the last one that could
//! still be used. Counts are of what the app's work met; an app that leaves, or an error of our
//! own, is not among them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::load::Counts;
use super::member::Member;
use super::members::Members;
use crate::config;
use crate::telemetry::metrics::EjectionReason;

/// The success rate is judged over this much time, in steps of [`STEP`].
const STEPS: usize = 10;
const STEP: Duration = Duration::from_secs(1);
/// Fewer outcomes than this say nothing about a rate.
const ENOUGH: u64 = 10;
/// A backend is an outlier below this rate, in percent, if the others are so much better.
const BAD: u64 = 50;
const WORSE_BY: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    pub until: Instant,
    pub reason: EjectionReason,
}

/// What is kept of one backend's past.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) ejection: Option<Ejection>,
    /// Ejections that the next one is lengthened by; one is forgiven for each `base_ejection`
    /// without another.
    times: u32,
    calm_since: Instant,
    counts: Counts,
    /// Answers so far.
    answered: u64,
    total: Tally,
    /// Totals at the ends of the last steps, the oldest first.
    steps: VecDeque<Tally>,
    stepped: Instant,
}

/// Outcomes of attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) outcomes: u64,
    pub(super) failures: u64,
}

impl Tally {
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            outcomes: self.outcomes.saturating_sub(earlier.outcomes),
            failures: self.failures.saturating_sub(earlier.failures),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { outcomes: self.outcomes + other.outcomes, failures: self.failures + other.failures }
    }

    /// In percent.
    fn success_rate(self) -> u64 {
        let successes = self.outcomes.saturating_sub(self.failures);
        (successes * 100).checked_div(self.outcomes).unwrap_or(100)
    }

    /// Whether this is bad enough beside what the others did.
    pub(super) fn is_outlier(self, others: Self) -> bool {
        self.outcomes >= ENOUGH
            && others.outcomes >= ENOUGH
            && self.success_rate() < BAD
            && others.success_rate() >= self.success_rate() + WORSE_BY
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Self::plus)
    }
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ejection: None,
            times: 0,
            calm_since: now,
            counts: Counts::default(),
            answered: 0,
            total: Tally::default(),
            steps: VecDeque::from([Tally::default()]),
            stepped: now,
        }
    }

    /// Takes in what the backend has counted: its answers, all its failures, and those that came
    /// with an answer or after it. How many outcomes are new.
    pub(super) fn observe(&mut self, counts: Counts, failures: (u32, u32), now: Instant) -> u64 {
        let (failures, answered_failures) = (u64::from(failures.0), u64::from(failures.1));
        let unanswered = failures.saturating_sub(answered_failures);
        let before = self.total;
        let answered = u64::from(counts.answered_since(self.counts));
        self.counts = counts;
        self.answered += answered;
        self.total = Tally {
            outcomes: (self.answered + unanswered).max(before.outcomes),
            failures: failures.max(before.failures),
        };
        if now.duration_since(self.stepped) >= STEP {
            self.stepped = now;
            self.steps.push_back(self.total);
            while self.steps.len() > STEPS {
                self.steps.pop_front();
            }
        }
        self.total.since(before).outcomes
    }

    /// Outcomes of the last ten seconds.
    pub(super) fn recent(&self) -> Tally {
        self.steps.front().map_or_else(Tally::default, |oldest| self.total.since(*oldest))
    }

    pub(super) fn eject(
        &mut self,
        reason: EjectionReason,
        rules: &config::Outlier,
        now: Instant,
    ) -> Duration {
        self.times += 1;
        let length = rules.base_ejection.saturating_mul(self.times).min(rules.max_ejection);
        self.ejection = Some(Ejection { until: now + length, reason });
        // What led to this ejection does not lead to the next.
        self.steps.clear();
        self.steps.push_back(self.total);
        length
    }

    /// Whether it is ejected, and has been for long enough to be tried.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.ejection.is_some_and(|ejection| ejection.until <= now)
    }

    /// It is used again.
    pub(super) fn restore(&mut self, now: Instant) {
        self.ejection = None;
        self.calm_since = now;
        self.steps.clear();
        self.steps.push_back(self.total);
    }

    /// Forgives, with time.
    pub(super) fn age(&mut self, rules: &config::Outlier, now: Instant) {
        if self.ejection.is_some() || self.times == 0 {
            self.calm_since = now;
        } else if now.duration_since(self.calm_since) >= rules.base_ejection {
            self.times -= 1;
            self.calm_since = now;
        }
    }
}

/// How many more backends may be ejected now.
#[derive(Debug)]
pub(super) struct Room {
    allowed: usize,
    /// Backends that could be used if nobody else were left, and are not stalled.
    usable: usize,
}

impl Room {
    pub(super) fn of(members: &Members, rules: &config::Outlier) -> Self {
        let (mut staying, mut ejected, mut usable) = (0, 0, 0);
        for member in members.iter().filter(|member| !member.drains.any()) {
            staying += 1;
            ejected += usize::from(member.record.ejection.is_some());
            usable += usize::from(member.is_usable() && !member.stall.stalled);
        }
        let share = staying * usize::from(rules.max_ejected) / 100;
        Self { allowed: share.max(1).saturating_sub(ejected), usable }
    }

    /// Whether there is room for this one, which leaves somebody else.
    pub(super) fn is_left_for(&self, member: &Member) -> bool {
        let others = self.usable.saturating_sub(usize::from(!member.stall.stalled));
        self.allowed > 0 && others > 0
    }

    pub(super) fn take(&mut self, member: &Member) {
        self.allowed -= 1;
        self.usable -= usize::from(!member.stall.stalled);
    }
}
