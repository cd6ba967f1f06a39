//! Whether a snapshot says what is the case.

use tokio::time::{Duration, Instant};

use super::model::Model;
use super::peer::Peer;
use super::rules::{self, Choice, Standing};
use super::world::World;
use crate::cluster::fixture::port;
use crate::cluster::history::Kind;
use crate::cluster::{Cut, Entry, Snapshot};

/// Snapshots follow each other no faster.
pub(super) const PUBLISH: Duration = Duration::from_millis(10);

impl World {
    /// The task has done what was due.
    pub(super) fn judge_tick(&mut self) {
        let now = Instant::now();
        self.judge_change(None, true);
        let wake = self.task.next_wake();
        assert!(wake.is_none_or(|at| at > now), "it wakes up at once");
        let snapshot = self.cluster.snapshot();
        if snapshot.version != self.view.version {
            assert_eq!(snapshot.version, self.view.version + 1);
            let pause = self.view.at.is_none_or(|at| now - at >= PUBLISH);
            assert!(pause, "two snapshots within {PUBLISH:?}");
            self.judge_snapshot(&snapshot);
            self.judge_weights(&snapshot);
            let panicked = self.view.choice.panic;
            self.see(&snapshot);
            match (panicked, self.view.choice.panic) {
                (false, true) => self.model.due.push((None, Kind::Panic)),
                (true, false) => self.model.due.push((None, Kind::PanicOver)),
                _ => {}
            }
        } else if !self.task.changed && self.task.swept == now && self.view.version > 0 {
            self.judge_snapshot(&snapshot);
        }
        self.judge_history();
    }

    /// The snapshot says what is the case.
    fn judge_snapshot(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        let model = &self.model;
        let present: Vec<&Peer> = model.present().collect();
        let ports = snapshot.entries.iter().map(|entry| port(&entry.backend.endpoint.address));
        assert!(ports.eq(present.iter().map(|peer| peer.port)), "others than those that are there");
        let counts = model.counts.as_ref();
        assert_eq!(
            (snapshot.source, snapshot.stale_since, snapshot.from_memory),
            (
                counts.map(|counts| counts.source),
                counts.and_then(|counts| counts.stale_since),
                counts.is_some_and(|counts| counts.from_memory)
            )
        );
        let choice = model.choice(now);
        for (place, (entry, peer)) in snapshot.entries.iter().zip(&present).enumerate() {
            let backend = &entry.backend;
            assert_eq!(snapshot.find(backend.id), Some(place));
            let tags = backend.tags.into_iter().flat_map(|tags| tags.all());
            tags.for_each(|tag| assert_eq!(snapshot.find_tag(tag), Some(place)));
            let told = (backend.endpoint.weight, backend.endpoint.priority);
            assert_eq!(told, (peer.told.weight * 256, peer.told.tier), "{}", peer.port);
            let panics = choice.panic && choice.candidates.contains(&peer.port);
            judge_entry(entry, peer, model, panics, now);
        }
        assert_eq!(snapshot.find(model.latest_id + 1), None);

        let candidates = &snapshot.candidates;
        let backend = |place: &usize| &snapshot.entries[*place].backend;
        let found: Vec<u16> =
            candidates.indices.iter().map(|place| port(&backend(place).endpoint.address)).collect();
        assert_eq!(Choice { candidates: found, panic: candidates.panic }, choice);
        assert!(candidates.ids.iter().eq(candidates.indices.iter().map(|at| &backend(at).id)));
        let ready = present.iter().filter(|peer| peer.standing() == Standing::Ready).count();
        assert_eq!(candidates.eligible, ready);
        let trials = candidates.trials.iter().map(|at| port(&backend(at).endpoint.address));
        let over = present.iter().filter(|peer| peer.is_tried(now)).map(|peer| peer.port);
        assert!(trials.eq(over), "other trials than those that are due");
    }

    /// Shares grow from a tenth to all within the window.
    fn judge_weights(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (entry, peer) in snapshot.entries.iter().zip(self.model.present()) {
            let (weight, whole) = (f64::from(entry.weight), f64::from(peer.weight()));
            assert!(weight >= whole / 10.0 && weight <= whole, "{weight} of {whole}");
            let grown = match (peer.growing_since, self.model.settings.slow_start) {
                (Some(since), Some(window)) => (now - since).div_duration_f64(window),
                _ => 1.0,
            };
            let expected = whole * grown.clamp(0.1, 1.0);
            let slack = 1.0 + whole / 100.0;
            let is_new = peer.standing() != Standing::Ready;
            let port = peer.port;
            assert!(
                is_new || (weight - expected).abs() <= slack,
                "{port}: {weight}, not {expected}"
            );
        }
        if self.model.settings.tier_spill {
            return self.judge_shares(snapshot);
        }
        for (at, place) in snapshot.candidates.indices.iter().enumerate() {
            let weight = snapshot.entries[*place].weight.max(1);
            assert_eq!(snapshot.candidates.weights.get(at), weight);
        }
    }
}

impl World {
    /// The weights of each tier add up to its share.
    fn judge_shares(&self, snapshot: &Snapshot) {
        let facts: Vec<_> = self.model.present().map(Peer::facts).collect();
        let staying: Vec<_> = facts.iter().filter(|f| f.standing != Standing::Draining).collect();
        let shares = rules::shares(&staying);
        let taken: f64 = shares.iter().map(|(_, share, _)| share).sum();
        let weights = &snapshot.candidates.weights;
        let total = weights.total() as f64;
        for (tier, share, _) in shares {
            let of_tier =
                |place: &usize| snapshot.entries[*place].backend.endpoint.priority == tier;
            let places = snapshot.candidates.indices.iter().enumerate();
            let own = places.filter(|(_, place)| of_tier(place)).map(|(at, _)| weights.get(at));
            let own = own.map(f64::from).sum::<f64>() / total;
            assert!((own - share / taken).abs() < 0.01, "tier {tier}: {own}, not {share}/{taken}");
        }
    }
}

fn judge_entry(entry: &Entry, peer: &Peer, model: &Model, panics: bool, now: Instant) {
    let (port, rules) = (peer.port, &model.settings.drain);
    let state = (entry.probe, entry.ejection.map(|ejection| ejection.until), entry.stalled);
    assert_eq!(state, (peer.verdict, peer.ejected_until, peer.stalled), "{port}");
    assert_eq!(entry.on_trial, peer.ejected_until.is_some_and(|until| until <= now), "{port}");
    assert!(peer.is_ordered(&entry.ordered), "{port}: {:?}, not {:?}", entry.ordered, peer.own);
    let weights = (entry.ordered.fleet, entry.assigned);
    assert_eq!(weights, (peer.fleet.weight, peer.weight()), "{port}");
    assert_eq!(entry.suspect_until, peer.suspicion.map(|suspicion| suspicion.until), "{port}");
    assert_eq!(entry.is_critical(), peer.critical_since.is_some(), "{port}");
    let cut = if panics { Cut::Never } else { peer.cut(rules) };
    assert_eq!(entry.cut, cut, "{port}");
    let leaving = entry.leaving.map(|l| (l.cause, l.deadline, l.keeps_affinity, l.done));
    let expected = peer.drains.first().zip(peer.deadline()).map(|((cause, _), deadline)| {
        (*cause, deadline, peer.keeps_affinity(rules, now), peer.done)
    });
    assert_eq!(leaving, expected, "{port}");
}
