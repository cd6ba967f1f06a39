//! Who would be picked now, and why every other backend would not: for people.

use std::sync::Arc;

use tokio::time::Instant;

use super::lead::{Reason, Whereabouts};
use super::pick::{Picker, Wish};
use super::snapshot::{Entry, Snapshot, State};
use super::{Cluster, Key, WEIGHT_ONE};
use crate::telemetry::metrics::Outcome;

#[derive(Debug)]
pub struct Explained {
    /// `None`: nobody may be used, or only the backend that the key belongs to, which may not be.
    pub picked: Option<Arc<str>>,
    pub reason: Reason,
    pub summary: String,
    /// In the order of the snapshot.
    pub backends: Vec<Explanation>,
}

#[derive(Debug)]
pub struct Explanation {
    pub backend: Arc<str>,
    pub state: State,
    /// Of the picks by the policy, 0..=1.
    pub share: f64,
    pub why: String,
}

impl Cluster {
    /// Explains a pick for what carries this key, or for none.
    pub fn explain(self: &Arc<Self>, key: Option<&[u8]>, now: Instant) -> Explained {
        let snapshot = self.snapshot();
        let nowhere = Whereabouts { reason: Reason::Policy, place: None };
        let found = key.map_or(nowhere, |key| self.whereabouts(&snapshot, key, now));
        let bound = key.and_then(|key| self.pins.backend(key));
        let home = found.place.map(|place| Arc::clone(&snapshot.entries[place].backend.name));
        let picked = match home {
            Some(home) => Some(home),
            None if bound.is_some() && self.settings.affinity.strict => None,
            None => self.would_pick(),
        };
        let summary = self.summary(&snapshot, found.reason, bound, picked.as_deref());
        let backends = (0..snapshot.entries.len()).map(|place| explanation(&snapshot, place));
        Explained { picked, reason: found.reason, summary, backends: backends.collect() }
    }

    fn summary(
        &self,
        snapshot: &Snapshot,
        reason: Reason,
        bound: Option<u64>,
        picked: Option<&str>,
    ) -> String {
        let policy = self.settings.policy.name();
        match (picked, reason) {
            _ if snapshot.entries.is_empty() => "discovery knows of no backend".into(),
            (None, _) => "no backend may be used".into(),
            (Some(name), Reason::Pin) => format!("the key is pinned to {name}"),
            (Some(name), Reason::Learned) => format!("the key has been at {name} before"),
            (Some(name), Reason::Hash) => format!("the key's hash leads to {name}"),
            (Some(name), Reason::Policy) => match bound.map(|id| snapshot.find(id)) {
                Some(Some(place)) => {
                    let home = &snapshot.entries[place].backend.name;
                    format!(
                        "the key is pinned to {home}, which may not be used; {policy} decides, now for {name}"
                    )
                }
                Some(None) => format!(
                    "the key is pinned to a backend that is gone; {policy} decides, now for {name}"
                ),
                None => format!("{policy} decides at each pick, now for {name}"),
            },
        }
    }

    /// A backend that a pick without a key may get now.
    pub fn would_pick(self: &Arc<Self>) -> Option<Arc<str>> {
        let mut picker = Picker::new(Arc::clone(self), fastrand::Rng::new());
        let wish = Wish { key: Key::None, tried: &[], replayable: false, now: Instant::now() };
        let mut pick = picker.pick(wish, |backend| backend.may_connect()).ok()?;
        pick.outcome(Outcome::Unused);
        Some(Arc::clone(&pick.backend.name))
    }
}

impl Snapshot {
    /// The share of picks by weight that the backend at this place has, and the sum of all shares; 0: it
    /// is no candidate.
    pub fn share(&self, place: usize) -> (u32, u64) {
        let weights = &self.candidates.weights;
        let own = self.candidates.indices.binary_search(&place).map(|index| weights.get(index));
        (own.unwrap_or_default(), weights.total())
    }
}

fn explanation(snapshot: &Snapshot, place: usize) -> Explanation {
    let entry = &snapshot.entries[place];
    let (own, total) = snapshot.share(place);
    let share = if own == 0 { 0.0 } else { f64::from(own) / total as f64 };
    let why = match (own, entry.state()) {
        (0, State::Ready) => unused(snapshot, entry),
        (0, state) => state.name().into(),
        (_, State::Ready) => {
            format!("weight {}", f64::from(entry.weight) / f64::from(WEIGHT_ONE))
        }
        (_, state) => format!("{}, and used for want of better ones", state.name()),
    };
    Explanation { backend: Arc::clone(&entry.backend.name), state: entry.state(), share, why }
}

/// Why one that nothing speaks against is not used.
fn unused(snapshot: &Snapshot, entry: &Entry) -> String {
    let tier = entry.backend.endpoint.priority;
    match snapshot.candidates.tiers().next() {
        Some(lowest) if lowest < tier => {
            format!("tier {tier} waits: tier {lowest} takes all")
        }
        _ => "weight 0: others of its tier come first".into(),
    }
}
