//! Keys that apps and operators bind to backends.

use std::collections::BTreeMap;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::journal::Note;
use super::owners::{Owner, name};
use super::peer::SWEEP;
use super::world::World;
use crate::cluster::history::Kind;
use crate::cluster::{Event, Happened, Key, Pinning, Reason, Unpinning};

/// Keys that are ever bound.
const KEYS: u8 = 6;

#[derive(Debug, Default)]
pub(super) struct Pins {
    by_key: BTreeMap<u8, Pin>,
    /// How many pins have come and gone that the history does not know of, by the id of their
    /// backend, and since when.
    unnoted: BTreeMap<(u64, Kind), u32>,
    since: Option<Instant>,
}

#[derive(Debug)]
struct Pin {
    /// Of the backend.
    id: u64,
    owner: Owner,
    until: Option<Instant>,
}

impl Pins {
    fn happened(&mut self, id: u64, kind: Kind) {
        *self.unnoted.entry((id, kind)).or_default() += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// True when it was there.
    fn remove(&mut self, key: u8) -> bool {
        let removed = self.by_key.remove(&key);
        removed.inspect(|pin| self.happened(pin.id, Kind::Unpinned)).is_some()
    }
}

impl World {
    pub(super) fn change_pin(&mut self) {
        let key = self.rng.u8(..KEYS);
        if self.rng.u8(..4) == 0 { self.unpin(key) } else { self.pin(key) }
    }

    fn pin(&mut self, key: u8) {
        let port = self.rng.u16(1..=self.moods.len() as u16);
        let (owner, told) = self.draw_owner();
        let ttl = self.draw_ttl(owner);
        self.journal.note(Note::Pin { key, port, owner, ttl });
        let refusal = self.model.refusal(owner, port);
        if let (None, Some(id)) = (&refusal, self.model.peer(port).id) {
            let until = ttl.map(|ttl| Instant::now() + ttl);
            self.model.pins.by_key.insert(key, Pin { id, owner, until });
            self.model.pins.happened(id, Kind::Pinned);
        }
        let (reply, mut outcome) = oneshot::channel();
        let (key, backend) = ([key].into(), name(port));
        self.tell(Event::Pin(Pinning { key, backend, owner: told, ttl, reply }));
        let expected = refusal.map_or_else(|| Ok(name(port).into()), Err);
        assert_eq!(outcome.try_recv(), Ok(Some(expected)));
    }

    /// Anybody may.
    fn unpin(&mut self, key: u8) {
        let (_, owner) = self.draw_owner();
        let was = self.model.pins.remove(key);
        self.journal.note(Note::Unpin(key, was));
        let (reply, mut outcome) = oneshot::channel();
        self.tell(Event::Unpin(Unpinning { key: [key].into(), owner, reply }));
        assert_eq!(outcome.try_recv(), Ok(was));
    }

    /// With the lease that has ended.
    pub(super) fn end_pins(&mut self, lease: u64) {
        let of_lease = |(_, pin): &(&u8, &Pin)| pin.owner.lease == Some(lease);
        let ended = self.model.pins.by_key.iter().filter(of_lease).map(|(key, _)| *key);
        for key in ended.collect::<Vec<_>>() {
            self.model.pins.remove(key);
            self.journal.note(Note::PinRevoked(key));
        }
    }

    /// What a request with some key carries, if that is bound.
    pub(super) fn draw_pinned(&mut self) -> Option<Key> {
        let key = self.rng.u8(..KEYS * 4);
        let id = self.cluster.pins.backend(&[key])?;
        assert_eq!(self.model.pins.by_key.get(&key).map(|pin| pin.id), Some(id));
        let leads = self.view.find(|seen| seen.id == id).filter(|seen| seen.stays);
        let snapshot = self.cluster.snapshot();
        let found = self.cluster.whereabouts(&snapshot, &[key], Instant::now());
        let place = found.place.filter(|_| found.reason == Reason::Pin);
        let told = place.map(|place| snapshot.entries[place].backend.id);
        assert_eq!(told, leads.map(|seen| seen.id), "where {key} leads");
        Some(Key::Pinned(id))
    }

    /// A pin ends with its time, which is looked at every now and then, and not sooner.
    pub(super) fn judge_pins(&mut self, looked: bool) {
        let now = Instant::now();
        let over = |pin: &Pin| pin.until.is_some_and(|until| until <= now);
        let gone = |key: u8| self.cluster.pins.backend(&[key]).is_none();
        let ended = self.model.pins.by_key.iter();
        let ended = ended.filter(|(key, pin)| looked && over(pin) && gone(**key));
        for key in ended.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.model.pins.remove(key);
            self.journal.note(Note::PinExpired(key));
        }
        let by_key = &self.model.pins.by_key;
        assert_eq!(self.cluster.pins.len(), by_key.len(), "pins");
        let late = |pin: &Pin| pin.until.is_some_and(|until| until + SWEEP < now);
        assert!(!by_key.values().any(late), "late: {by_key:?}");
        // A look changes none of those that stay.
        for (key, pin) in by_key.iter().filter(|_| !looked) {
            let found = self.cluster.pins.get(&[*key]).expect("a pin that holds");
            assert!(pin.owner.is(&found.owner), "the pin of {key} is of {:?}", found.owner);
            assert_eq!((found.backend, found.until), (pin.id, pin.until), "the pin of {key}");
            let same = by_key.values().filter(|other| other.id == pin.id).count();
            assert_eq!(self.cluster.pins.count(pin.id) as usize, same, "pins to {}", pin.id);
        }
    }

    /// What happens to pins is summed up at the next look: how many, of which backend.
    pub(super) fn judge_pin_notes(&mut self, found: &[Happened]) {
        let pins = &mut self.model.pins;
        if found.is_empty() {
            let late = pins.since.is_some_and(|since| since + SWEEP < Instant::now());
            return assert!(!late, "nothing was noted of {:?}", pins.unnoted);
        }
        let mut noted = BTreeMap::new();
        for entry in found {
            let port = entry.backend.as_deref().and_then(super::past::port);
            let count = entry.cause.split(' ').next().and_then(|count| count.parse().ok());
            *noted.entry((port, entry.kind)).or_default() += count.unwrap_or(0);
        }
        let mut expected: BTreeMap<(Option<u16>, Kind), u32> = BTreeMap::new();
        for ((id, kind), count) in std::mem::take(&mut pins.unnoted) {
            let known = self.model.peers.iter().find(|peer| peer.id == Some(id));
            *expected.entry((known.map(|peer| peer.port), kind)).or_default() += count;
        }
        self.model.pins.since = None;
        assert_eq!(noted, expected, "pins in the history");
    }
}
