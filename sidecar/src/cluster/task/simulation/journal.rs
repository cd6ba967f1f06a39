//! What happened lately, told when a rule is broken.

use std::collections::{HashMap, VecDeque};
use std::mem::{Discriminant, discriminant};

use tokio::time::{Duration, Instant};

use super::discovery::Told;
use super::owners::Owner;
use super::traffic::Mood;
use crate::cluster::{FleetOrders, Key, NoPick, What};
use crate::telemetry::metrics::Outcome;

const KEPT: usize = 60;

#[derive(Debug)]
pub(super) struct Journal {
    seed: u64,
    start: Instant,
    pub(super) step: usize,
    settings: String,
    notes: VecDeque<(usize, Instant, Note)>,
    /// How often each kind of thing happened.
    pub(super) kinds: HashMap<Discriminant<Note>, usize>,
}

/// Kinds of notes.
pub(super) const KINDS: usize = 35;

/// Something that happened. Backends go by their ports.
#[derive(Debug)]
#[expect(dead_code, reason = "read when it is printed")]
pub(super) enum Note {
    /// Of an earlier life, and how long it may serve.
    Remembered(usize, Vec<Told>, Duration),
    /// Which source, what it says, and whether that is decided.
    Discovered(usize, Vec<Told>, bool),
    DiscoveryFailed(usize),
    Mood(u16, Mood),
    Probed(u16, bool),
    Order {
        port: u16,
        owner: Owner,
        what: What,
        ttl: Option<Duration>,
    },
    Refused,
    /// The time of an order is over, also of one whose backend is away.
    Expired(u16),
    ExpiredAway(u16),
    Fleet(FleetOrders),
    Lease(u64),
    LeaseEnded(u64),
    /// An order has ended with its lease.
    Revoked(u16),
    RevokedAway(u16),
    /// A backend is back, and its orders hold.
    Kept(u16),
    Pin {
        key: u8,
        port: u16,
        owner: Owner,
        ttl: Option<Duration>,
    },
    /// Whether there was a pin.
    Unpin(u8, bool),
    PinExpired(u8),
    PinRevoked(u8),
    /// A pinned key has led to its backend, or could not.
    Followed,
    PassedOver,
    Suspect(u64),
    Trial(u64, bool),
    Built,
    Picked {
        worker: usize,
        key: Key,
        what: Result<u16, NoPick>,
    },
    Tried(u16),
    Retry(bool),
    Ended(u16, Outcome),
    Ejected(u16),
    Restored(u16),
    Stalled(u16, bool),
    Unmasked(u16),
    Done(u16),
    Gone(u16),
    Published {
        version: u64,
        candidates: Vec<u16>,
        panic: bool,
    },
}

impl Journal {
    pub(super) fn new(seed: u64, settings: String) -> Self {
        let start = Instant::now();
        let (notes, kinds) = (VecDeque::with_capacity(KEPT), HashMap::new());
        Self { seed, start, step: 0, settings, notes, kinds }
    }

    pub(super) fn note(&mut self, note: Note) {
        *self.kinds.entry(discriminant(&note)).or_default() += 1;
        if self.notes.len() == KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back((self.step, Instant::now(), note));
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("OUTRIGGER_SEED={} failed at step {}: {}", self.seed, self.step, self.settings);
        for (step, at, note) in &self.notes {
            eprintln!("{step:5} {:9.3} {note:?}", (*at - self.start).as_secs_f64());
        }
    }
}
