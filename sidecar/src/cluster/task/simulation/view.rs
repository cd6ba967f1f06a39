//! What workers may see: the facts of the time when the snapshot was published.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::time::Instant;

use super::journal::Note;
use super::peer::Peer;
use super::rules::Choice;
use super::world::World;
use crate::cluster::Snapshot;

#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) version: u64,
    pub(super) at: Option<Instant>,
    pub(super) choice: Choice,
    pub(super) backends: Vec<Seen>,
    /// Whether discovery knows of somebody.
    pub(super) knows_any: bool,
    /// What a table for hashed keys is to be made of, what the latest one is made of, and the one
    /// in this snapshot.
    pub(super) signature: u64,
    pub(super) built: Option<u64>,
    pub(super) table: Option<u64>,
    /// Whether everyone in that table may be used.
    pub(super) is_whole: bool,
    /// Where hashed keys belong, by table.
    pub(super) homes: HashMap<(u64, u64), u16>,
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) port: u16,
    pub(super) id: u64,
    pub(super) tag: Option<u64>,
    pub(super) stays: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) ejected_until: Option<Instant>,
}

impl View {
    pub(super) fn find(&self, wanted: impl Fn(&Seen) -> bool) -> Option<&Seen> {
        self.backends.iter().find(|seen| wanted(seen))
    }

    pub(super) fn is_candidate(&self, port: u16) -> bool {
        self.choice.candidates.contains(&port)
    }
}

impl World {
    /// Keeps what workers see from now on.
    pub(super) fn see(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let rules = &self.model.settings.drain;
        let view = &mut self.view;
        (view.version, view.at) = (snapshot.version, Some(now));
        view.choice = self.model.choice(now);
        view.knows_any = self.model.present().any(Peer::is_kept);
        let seen = |peer: &Peer| Seen {
            port: peer.port,
            id: peer.id.expect("known"),
            tag: peer.tag,
            stays: view.choice.candidates.contains(&peer.port) || peer.takes_affinity(rules, now),
            deadline: peer.deadline(),
            ejected_until: peer.is_tried(now).then_some(peer.ejected_until).flatten(),
        };
        view.backends = self.model.present().map(seen).collect();
        if let Some(first) = view.choice.candidates.first() {
            let tier = self.model.peers[usize::from(*first) - 1].told.tier;
            let members: Vec<_> = self
                .model
                .present()
                .filter(|peer| peer.told.tier == tier)
                .map(|peer| (peer.port, peer.id, peer.weight()))
                .collect();
            let mut hasher = DefaultHasher::new();
            members.hash(&mut hasher);
            view.signature = hasher.finish();
            // The first table is there at once.
            view.built.get_or_insert(view.signature);
            let weighted = members.iter().any(|(.., weight)| *weight > 0);
            view.is_whole = members
                .iter()
                .filter(|(.., weight)| *weight > 0 || !weighted)
                .all(|(port, ..)| view.choice.candidates.contains(port));
        }
        view.table = view.built;
        // Who is not to be tried now may be tried again when that is due.
        let due = |peer: &Peer| peer.ejected_until.is_some_and(|until| until <= now);
        for peer in self.model.peers.iter_mut().filter(|peer| peer.present && !due(peer)) {
            peer.trial = false;
        }
        let Choice { candidates, panic } = view.choice.clone();
        self.journal.note(Note::Published { version: snapshot.version, candidates, panic });
    }
}
