//! What sources say, and what is made of it.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Duration, Instant};

use super::ClusterTask;
use crate::cluster::WEIGHT_ONE;
use crate::cluster::answer::Answer;
use crate::cluster::endpoint::Endpoint;
use crate::cluster::history::Kind;
use crate::cluster::members::{Change, Terms};
use crate::cluster::sources::{Chosen, Set};
use crate::config::Source;
use crate::telemetry::metrics::{DrainResult, Update};

/// The answer that the members are from.
#[derive(Debug)]
pub(super) struct Used {
    source: usize,
    set: Set,
    decided: bool,
}

impl ClusterTask {
    /// Gives the cluster its first backends before it runs, when they are known already.
    pub fn seed(&mut self, source: usize, endpoints: Vec<Endpoint>) {
        let now = Instant::now();
        self.discovered(Answer::new(source, SystemTime::now(), endpoints), now);
        self.tick(now);
    }

    /// What the source had said by then, in an earlier life: it serves until the source speaks,
    /// unless it becomes older than `max_stale` before.
    pub fn remember(
        &mut self,
        source: usize,
        saved_at: SystemTime,
        endpoints: Vec<Endpoint>,
        max_stale: Duration,
    ) {
        // A clock that was ahead makes nothing fresh for longer, nor stale from a time to come.
        let saved_at = saved_at.min(SystemTime::now());
        let age = saved_at.elapsed().unwrap_or_default();
        let Some(left) = max_stale.checked_sub(age) else { return };
        self.recall(source, saved_at, endpoints, left, Instant::now());
    }

    /// `left`: how long it may serve.
    pub(super) fn recall(
        &mut self,
        source: usize,
        saved_at: SystemTime,
        endpoints: Vec<Endpoint>,
        left: Duration,
        now: Instant,
    ) {
        self.sources.remember(source, saved_at, endpoints, now.checked_add(left));
        self.sources_due = self.sources.next_change(now);
    }

    pub(super) fn discovered(&mut self, answer: Answer, now: Instant) {
        let (source, at) = (answer.source, answer.at);
        let Some(news) = self.sources.answered(answer, now) else { return };
        let metrics = &self.cluster.metrics;
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
        metrics.last_success.set(since_epoch.unwrap_or_default().as_secs_f64());
        metrics.updated(source, if news.changed { Update::Changed } else { Update::Unchanged });
        if news.left_out > 0 {
            let (cluster, left_out) = (self.cluster.name(), news.left_out);
            tracing::warn!(cluster, left_out, "discovery gave too many endpoints");
        }
        if news.recovered {
            self.note(None, Kind::Answered, format!("{} is here again", self.answer_of(source)));
        }
        self.follow_sources(at, now);
    }

    pub(super) fn discovery_failed(
        &mut self,
        source: usize,
        at: SystemTime,
        error: &str,
        now: Instant,
    ) {
        self.cluster.metrics.updated(source, Update::Failure);
        if self.sources.failed(source, at) {
            let kept = self.members.iter().count();
            self.note(None, Kind::Failed, format!("{error}; keeping {kept} backends"));
        }
        self.follow_sources(at, now);
    }

    /// Takes over the answer that counts now. `at`: when it came, or did not come.
    pub(super) fn follow_sources(&mut self, at: SystemTime, now: Instant) {
        let chosen = self.sources.choose(now);
        let stale_since = chosen.as_ref().and_then(|chosen| chosen.stale_since);
        let from_memory = chosen.as_ref().is_some_and(|chosen| chosen.from_memory);
        self.changed |= stale_since != self.stale_since || from_memory != self.from_memory;
        (self.stale_since, self.from_memory) = (stale_since, from_memory);
        match (chosen, &self.used) {
            (Some(chosen), Some(used)) if chosen.source == used.source => {
                // A set that was doubted may come once more, and be meant.
                if !Arc::ptr_eq(&chosen.set, &used.set) || chosen.decided && !used.decided {
                    let held = self.cluster.settings.removal_hold.filter(|_| !chosen.decided);
                    self.take_over(chosen, held, at, now);
                }
            }
            (Some(chosen), used) => {
                if used.is_some() || chosen.source > 0 || chosen.from_memory {
                    let answer = self.answer_of(chosen.source);
                    let from = if chosen.from_memory { "as remembered, " } else { "" };
                    self.note(None, Kind::Source, format!("{from}{answer} is used"));
                }
                // Another source is no update of the one before.
                self.take_over(chosen, None, at, now);
            }
            // What was remembered has become too old.
            (None, Some(_)) => {
                self.note(None, Kind::Source, "what was remembered is too old".into());
                self.used = None;
                self.replace(&Set::default(), None, at, now);
            }
            (None, None) => {}
        }
    }

    fn take_over(&mut self, chosen: Chosen, hold: Option<Duration>, at: SystemTime, now: Instant) {
        let Chosen { source, set, decided, .. } = chosen;
        self.used = Some(Used { source, set: Arc::clone(&set), decided });
        self.replace(&set, hold, at, now);
    }

    fn replace(&mut self, set: &Set, hold: Option<Duration>, at: SystemTime, now: Instant) {
        // Whoever comes with the first backends is not late.
        let terms = Terms { hold, late: self.members.ever_any(), now };
        let change = self.members.replace(set, &self.cluster.settings, &self.shared, terms);
        let metrics = &self.cluster.metrics;
        metrics.drain(DrainResult::Cancelled).increment(change.cancelled);
        metrics.removals_held.increment(change.held.len() as u64);
        let answer = self.source().map_or("what is remembered", |source| self.answer_of(source));
        self.note_change(&change, &format!("{answer} of {}", time_of_day(at)));
        self.follow_fleet(now);
        self.changed = true;
    }

    fn note_change(&self, change: &Change, answer: &str) {
        let absent = format!("absent from {answer}");
        let hold = self.cluster.settings.removal_hold.unwrap_or_default();
        let held = format!(
            "{absent} with too many others, kept for {} while it passes its checks",
            humantime::format_duration(hold)
        );
        let listed = format!("listed in {answer}");
        self.note_all(&change.joined, Kind::Joined, &listed);
        self.note_all(&change.removed, Kind::Removed, &absent);
        self.note_all(&change.held, Kind::Suspect, &held);
        self.note_all(&change.cleared, Kind::Returned, &listed);
        self.note_all(&change.returned, Kind::Returned, &listed);
        self.note_all(&change.critical, Kind::Unhealthy, &format!("critical in {answer}"));
        self.note_all(&change.usable, Kind::Healthy, &format!("no longer critical in {answer}"));
        let maintained = format!("in maintenance in {answer}");
        self.note_all(&change.maintained, Kind::Draining, &maintained);
        let released = format!("no longer in maintenance in {answer}");
        self.note_all(&change.released, Kind::Resumed, &released);
        self.note_each(change.weights.iter().map(|(backend, weight)| {
            let weight = f64::from(*weight) / f64::from(WEIGHT_ONE);
            (backend, Kind::Weight, format!("{weight} in {answer}"))
        }));
    }

    /// Suspects whose time is up, or who fail their checks, are gone as discovery says.
    pub(super) fn unmask(&mut self, now: Instant) {
        let Change { removed, critical, .. } =
            self.members.unmask(&self.cluster.settings.drain, now);
        let cause = "discovery has not taken it back, and its time is up or it fails";
        self.note_all(&removed, Kind::Removed, cause);
        self.note_all(&critical, Kind::Unhealthy, cause);
        self.changed |= !removed.is_empty() || !critical.is_empty();
    }

    fn answer_of(&self, source: usize) -> &'static str {
        self.cluster.settings.sources.get(source).map_or("", Source::answer)
    }

    /// The source that the members are from.
    pub(super) fn source(&self) -> Option<usize> {
        self.used.as_ref().map(|used| used.source)
    }
}

/// As UTC has it.
fn time_of_day(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(at).to_string();
    text.get(11..19).unwrap_or(&text).to_owned()
}
