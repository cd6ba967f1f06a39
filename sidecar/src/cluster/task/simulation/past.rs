//! Whether the history has an entry for each change, and none without one.

use tokio::time::Instant;

use super::journal::Note;
use super::peer::{Peer, Suspicion};
use super::world::World;
use crate::cluster::drain::Cause;
use crate::cluster::history::Kind;
use crate::cluster::{Happened, Verdict};

/// What the latest entries have left a backend at.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    present: bool,
    suspicion: Option<Suspicion>,
    critical: bool,
    verdict: Verdict,
    ejected_until: Option<Instant>,
    stalled: bool,
    done: bool,
    drains: Vec<(Cause, Instant)>,
    fleet: Option<u16>,
    told: u32,
}

impl Shown {
    pub(super) fn of(peer: &Peer) -> Self {
        Self {
            present: peer.present,
            suspicion: peer.suspicion,
            critical: peer.critical_since.is_some(),
            verdict: peer.verdict,
            ejected_until: peer.ejected_until,
            stalled: peer.stalled,
            done: peer.done,
            drains: peer.drains.clone(),
            fleet: peer.fleet.weight,
            told: peer.told.weight,
        }
    }

    fn deadline(&self, cause: Cause) -> Option<Instant> {
        self.drains.iter().find(|(other, _)| *other == cause).map(|(_, deadline)| *deadline)
    }

    /// What must be noted when it is like `after` now.
    fn due(&self, after: &Self) -> Vec<Kind> {
        let mut due = Vec::new();
        let mut when = |happened: bool, kind: Kind| {
            if happened {
                due.push(kind);
            }
        };
        let removed = (self.deadline(Cause::Removal), after.deadline(Cause::Removal));
        let cleared = self.suspicion.is_some() && after.suspicion.is_none();
        when(self.suspicion.is_none() && after.suspicion.is_some(), Kind::Suspect);
        when(removed.0.is_none() && removed.1.is_some(), Kind::Removed);
        when(removed.0.is_some() && removed.1.is_none(), Kind::Returned);
        when(cleared && removed.1.is_none() && !after.critical, Kind::Returned);
        when(!self.critical && after.critical, Kind::Unhealthy);
        when(self.critical && !after.critical, Kind::Healthy);
        when(self.verdict != after.verdict && after.verdict == Verdict::Unhealthy, Kind::Unhealthy);
        when(self.verdict != after.verdict && after.verdict == Verdict::Healthy, Kind::Healthy);
        let ejections = (self.ejected_until, after.ejected_until);
        when(ejections.1.is_some() && ejections.0 != ejections.1, Kind::Ejected);
        let passes = self.verdict == Verdict::Unhealthy && after.verdict == Verdict::Healthy;
        let renewed = passes || self.critical && !after.critical;
        when(ejections.0.is_some() && ejections.1.is_none() && !renewed, Kind::Recovered);
        when(!self.stalled && after.stalled, Kind::Stalled);
        when(self.stalled && !after.stalled, Kind::Recovered);
        when(!self.done && after.done, Kind::Drained);
        for cause in [Cause::Fleet, Cause::Maintenance] {
            let (before, after) = (self.deadline(cause), after.deadline(cause));
            when(after.is_some() && before != after, Kind::Draining);
            when(before.is_some() && after.is_none(), Kind::Resumed);
        }
        when(self.fleet != after.fleet, Kind::Weight);
        when(self.told != after.told && (self.critical || !after.critical), Kind::Weight);
        due
    }
}

/// The port of a backend of this name.
pub(super) fn port(name: &str) -> Option<u16> {
    name.rsplit(':').next()?.parse().ok()
}

impl World {
    /// The model has taken in what the cluster has: each change has its entry.
    pub(super) fn judge_history(&mut self) {
        let history = std::sync::Arc::clone(&self.task.shared.history);
        let found = history.since(self.noted, None);
        for Happened { number, .. } in &found {
            self.noted += 1;
            assert_eq!(*number, self.noted, "entries are missing");
        }
        assert_eq!(*history.latest().borrow(), self.noted);
        let of_pins = |entry: &Happened| matches!(entry.kind, Kind::Pinned | Kind::Unpinned);
        let (pins, found): (Vec<_>, Vec<_>) = found.into_iter().partition(of_pins);
        self.judge_pin_notes(&pins);
        let mut due = std::mem::take(&mut self.model.due);
        let mut loose = Vec::new();
        for (peer, shown) in self.model.peers.iter().zip(&mut self.shown) {
            let after = Shown::of(peer);
            let before = std::mem::replace(shown, after);
            let port = Some(peer.port);
            if !before.present || !before.critical && shown.critical {
                loose.push(port);
            }
            match (before.present, shown.present) {
                (true, true) => due.extend(before.due(shown).into_iter().map(|kind| (port, kind))),
                (false, true) => {
                    due.push((port, Kind::Joined));
                    if !peer.own.is_empty() {
                        self.journal.note(Note::Kept(peer.port));
                    }
                }
                _ => {}
            }
        }
        let about = |entry: &Happened| (entry.backend.as_deref().and_then(port), entry.kind);
        let found: Vec<(Option<u16>, Kind)> = found.iter().map(about).collect();
        for entry in &due {
            assert!(found.contains(entry), "{entry:?} was not noted: {found:?}");
        }
        // Who joins may at once be what it was before, or is ordered to be; who becomes critical may
        // have another weight.
        for entry in found.iter().filter(|(port, _)| port.is_none() || !loose.contains(port)) {
            assert!(due.contains(entry), "{entry:?} was noted without a cause: {due:?}");
        }
    }
}
