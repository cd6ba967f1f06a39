//! A backend, whether the cluster knows it or not.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use tokio::time::{Duration, Instant};

use super::discovery::Told;
use super::given::Given;
use super::rules::{Facts, Standing};
use crate::cluster::Verdict;
use crate::cluster::drain::{Cause, Cut};
use crate::cluster::members::REMEMBER;
use crate::cluster::{FleetOrder, Reported};
use crate::config::{self, OnLeaving};
use crate::telemetry::metrics::Outcome;

/// How often the cluster looks at what was measured.
pub(super) const SWEEP: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) port: u16,
    /// As long as the cluster remembers it.
    pub(super) id: Option<u64>,
    /// What cookies call it, for ever.
    pub(super) tag: Option<u64>,
    /// What its source says of it and is believed.
    pub(super) told: Told,
    pub(super) critical_since: Option<Instant>,
    /// Discovery has dropped it with too many others, and is believed from then on.
    pub(super) suspicion: Option<Suspicion>,
    /// Whether it is one of the cluster's, listed or not.
    pub(super) present: bool,
    pub(super) joined_at: Instant,
    pub(super) gone_at: Option<Instant>,
    /// Orders to this sidecar, the latest last.
    pub(super) own: Vec<Given>,
    pub(super) fleet: FleetOrder,
    pub(super) verdict: Verdict,
    against: u16,
    pub(super) unhealthy_since: Option<Instant>,
    /// Why it drains, in the order in which that began, and the deadlines.
    pub(super) drains: Vec<(Cause, Instant)>,
    pub(super) done: bool,
    pub(super) ejected_until: Option<Instant>,
    /// Ejections in a row when the last one ended, which is known to within what is forgiven.
    pub(super) times: RangeInclusive<u32>,
    /// Since when nothing was held against it.
    calm_since: Instant,
    pub(super) stalled: bool,
    /// Whether its share grows from its first verdict on.
    pub(super) grows: bool,
    pub(super) growing_since: Option<Instant>,
    pub(super) trial: bool,
    pub(super) in_flight: u32,
    pub(super) waiting: u32,
    pub(super) answered_at: Option<Instant>,
    /// When it was last known to have had work that came to something.
    pub(super) worked_at: Option<Instant>,
    pub(super) failures: u32,
    pub(super) connect_failures: u32,
    /// Of the time that rules look back on.
    pub(super) recent: VecDeque<(Instant, Outcome)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suspicion {
    pub(super) until: Instant,
    /// What is said of it: that it is critical, or nothing.
    pub(super) then: Option<Told>,
}

impl Peer {
    pub(super) fn new(port: u16, now: Instant) -> Self {
        Self {
            port,
            id: None,
            tag: None,
            told: Told { port, weight: 0, tier: 0, reported: Reported::Passing },
            critical_since: None,
            suspicion: None,
            present: false,
            joined_at: now,
            gone_at: None,
            own: Vec::new(),
            fleet: FleetOrder::default(),
            verdict: Verdict::Pending,
            against: 0,
            unhealthy_since: None,
            drains: Vec::new(),
            done: false,
            ejected_until: None,
            times: 0..=0,
            calm_since: now,
            stalled: false,
            grows: false,
            growing_since: None,
            trial: false,
            in_flight: 0,
            waiting: 0,
            answered_at: None,
            worked_at: None,
            failures: 0,
            connect_failures: 0,
            recent: VecDeque::new(),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.verdict {
            _ if !self.drains.is_empty() => Standing::Draining,
            _ if self.critical_since.is_some() => Standing::Critical,
            Verdict::Unhealthy => Standing::Failing,
            _ if self.ejected_until.is_some() => Standing::Ejected,
            _ if self.stalled => Standing::Stalled,
            Verdict::Pending => Standing::Unprobed,
            Verdict::Healthy => Standing::Ready,
        }
    }

    pub(super) fn facts(&self) -> Facts {
        let standing = self.standing();
        Facts { port: self.port, tier: self.told.tier, weight: self.weight(), standing }
    }

    pub(super) fn drains_by(&self, cause: Cause) -> bool {
        self.drains.iter().any(|(other, _)| *other == cause)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.drains.iter().map(|(_, deadline)| *deadline).min()
    }

    /// Whether the work that it has ends at once because discovery dropped it.
    fn is_terminated(&self, rules: &config::Drain) -> bool {
        rules.on_removal == OnLeaving::Terminate && self.drains_by(Cause::Removal)
    }

    /// Whether work whose affinity names it may arrive, though it is nobody's candidate.
    pub(super) fn takes_affinity(&self, rules: &config::Drain, now: Instant) -> bool {
        let well =
            self.verdict != Verdict::Unhealthy && self.ejected_until.is_none() && !self.stalled;
        let well = well && self.critical_since.is_none();
        well && self.deadline().is_none_or(|_| self.keeps_affinity(rules, now))
    }

    pub(super) fn keeps_affinity(&self, rules: &config::Drain, now: Instant) -> bool {
        let before = self.deadline().is_some_and(|deadline| now < deadline);
        rules.keep_affinity && before && !self.done && !self.is_terminated(rules)
    }

    /// When its work ends by force, unless it is used in panic.
    pub(super) fn cut(&self, rules: &config::Drain) -> Cut {
        if self.drains.is_empty() {
            let since = self.unhealthy_since.into_iter().chain(self.critical_since).min();
            return match (since, rules.on_unhealthy) {
                (Some(since), OnLeaving::Drain) => Cut::At(since + rules.timeout),
                (Some(_), OnLeaving::Terminate) => Cut::Now,
                _ => Cut::Never,
            };
        }
        if self.is_terminated(rules) {
            return Cut::Now;
        }
        let is_cut = |(cause, _): &&(Cause, Instant)| {
            *cause != Cause::Removal || rules.on_removal == OnLeaving::Drain
        };
        let deadlines = self.drains.iter().filter(is_cut).map(|(_, deadline)| *deadline);
        deadlines.min().map_or(Cut::Never, Cut::At)
    }

    /// Whether it was not dropped for good.
    pub(super) fn is_kept(&self) -> bool {
        self.present && !self.drains_by(Cause::Removal)
    }

    pub(super) fn end_drain(&mut self, cause: Cause) {
        self.drains.retain(|(other, _)| *other != cause);
        self.done &= !self.drains.is_empty();
    }

    pub(super) fn begin_drain(&mut self, cause: Cause, deadline: Instant) {
        match self.drains.iter_mut().find(|(other, _)| *other == cause) {
            Some((_, known)) => *known = deadline,
            None => self.drains.push((cause, deadline)),
        }
    }

    /// What traffic showed of it is forgotten, and its share grows again.
    pub(super) fn recovered(&mut self, base: Option<Duration>, now: Instant) {
        self.forgive();
        self.restore(base, now);
        self.growing_since = Some(now);
    }

    /// Its ejection ends; without one, it has to be calm once more from now on.
    pub(super) fn restore(&mut self, base: Option<Duration>, now: Instant) {
        if let (None, Some(base)) = (self.ejected_until.take(), base) {
            self.times = self.times_at(base, now);
        }
        self.calm_since = now;
    }

    /// How many ejections in a row still count: each `base_ejection` without another forgives one,
    /// but that is only looked at every now and then.
    pub(super) fn times_at(&self, base: Duration, now: Instant) -> RangeInclusive<u32> {
        let calm = now.saturating_duration_since(self.calm_since);
        let most = (calm + SWEEP).div_duration_f64(base) as u32;
        let least = calm.saturating_sub(SWEEP).div_duration_f64(base + SWEEP) as u32;
        self.times.start().saturating_sub(most)..=self.times.end().saturating_sub(least)
    }

    pub(super) fn forgive(&mut self) {
        (self.failures, self.connect_failures) = (0, 0);
    }

    pub(super) fn join(&mut self, checked: bool, late: bool, base: Option<Duration>, now: Instant) {
        match self.gone_at {
            Some(gone) if now < gone + REMEMBER => {
                self.end_drain(Cause::Removal);
                self.recovered(base, gone);
                self.calm_since = now;
            }
            _ => *self = Self { tag: self.tag, ..Self::new(self.port, now) },
        }
        (self.present, self.joined_at) = (true, now);
        self.verdict = if checked { Verdict::Pending } else { Verdict::Healthy };
        (self.against, self.unhealthy_since) = (0, None);
        self.grows = late;
        self.growing_since = late.then_some(now);
    }

    pub(super) fn probed(
        &mut self,
        passed: bool,
        health: &config::Health,
        base: Option<Duration>,
        now: Instant,
    ) {
        let agrees = match self.verdict {
            Verdict::Pending => None,
            Verdict::Healthy => Some(passed),
            Verdict::Unhealthy => Some(!passed),
        };
        self.against = if agrees == Some(true) { 0 } else { self.against + 1 };
        let needed = match agrees {
            None => 1,
            Some(_) if passed => health.rise,
            Some(_) => health.fall,
        };
        if self.against < needed {
            return;
        }
        match self.verdict {
            Verdict::Unhealthy => self.recovered(base, now),
            Verdict::Pending if self.grows => self.growing_since = Some(now),
            _ => {}
        }
        self.verdict = if passed { Verdict::Healthy } else { Verdict::Unhealthy };
        self.unhealthy_since = (!passed).then_some(now);
        self.against = 0;
    }

    /// Whether one request may find out if it has recovered.
    pub(super) fn is_tried(&self, now: Instant) -> bool {
        self.standing() == Standing::Ejected && self.ejected_until.is_some_and(|at| at <= now)
    }
}
