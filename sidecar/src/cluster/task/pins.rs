//! Keys that apps bind to backends. A worker sees a pin at its next look, without a snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ClusterTask;
use crate::cluster::affinity::Pin;
use crate::cluster::history::Kind;
use crate::cluster::order::OrderError;
use crate::cluster::owner::Owner;

/// What is wanted of a key, and where the outcome is awaited: the name of the backend, or `None`
/// where there are as many pins as there may be.
#[derive(Debug)]
pub struct Pinning {
    pub key: Box<[u8]>,
    /// A backend's name, or a target's that only one backend has.
    pub backend: String,
    pub owner: Owner,
    /// `None`: as long as the owner's lease.
    pub ttl: Option<Duration>,
    pub reply: oneshot::Sender<Option<Result<Arc<str>, OrderError>>>,
}

/// A pin is to be taken back; the reply says whether there was one.
#[derive(Debug)]
pub struct Unpinning {
    pub key: Box<[u8]>,
    pub owner: Owner,
    pub reply: oneshot::Sender<bool>,
}

/// What has happened to pins since the last sweep: there may be thousands, and each was seen by whoever
/// ordered it.
#[derive(Debug, Default)]
pub(super) struct Pinned {
    counts: BTreeMap<(u64, Kind, String), u32>,
    /// When the first of the pins ends by itself, or sooner.
    next_end: Option<Instant>,
}

impl Pinned {
    /// Whether something is to be done about them by the next sweeps.
    pub(super) fn is_awaited(&self) -> bool {
        !self.counts.is_empty() || self.next_end.is_some()
    }

    fn count(&mut self, backend: u64, kind: Kind, cause: String) {
        *self.counts.entry((backend, kind, cause)).or_default() += 1;
    }
}

impl ClusterTask {
    pub(super) fn pin(&mut self, pinning: Pinning, now: Instant) {
        let Pinning { key, backend, owner, ttl, reply } = pinning;
        if owner.is_gone() {
            let _ = reply.send(Some(Err(OrderError::Lease)));
            return;
        }
        let pinned = self.members.named(&backend).map(|id| {
            let until = ttl.map(|ttl| now + ttl);
            let cause = owner.to_string();
            let set = self.cluster.pins.set(key, Pin { backend: id, owner, until });
            set.then(|| {
                self.pinned.count(id, Kind::Pinned, cause);
                self.pinned.next_end = [self.pinned.next_end, until].into_iter().flatten().min();
                self.members.name(id).cloned()
            })
        });
        let outcome = match pinned {
            Ok(Some(Some(name))) => Some(Ok(name)),
            Ok(Some(None)) => Some(Err(OrderError::Unknown(backend))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        };
        // Whoever asked may have gone.
        let _ = reply.send(outcome);
    }

    pub(super) fn unpin(&mut self, unpinning: Unpinning) {
        let cleared = self.cluster.pins.clear(&unpinning.key);
        if let Some(pin) = &cleared {
            self.pinned.count(pin.backend, Kind::Unpinned, unpinning.owner.to_string());
        }
        let _ = unpinning.reply.send(cleared.is_some());
    }

    /// Takes back whose time is over, and notes what has happened.
    pub(super) fn expire_pins(&mut self, now: Instant) {
        if self.pinned.next_end.is_some_and(|end| end <= now) {
            let over = |pin: &Pin| pin.until.is_some_and(|until| until <= now);
            self.end_pins(over, "their time is over");
            self.pinned.next_end = self.cluster.pins.next_end();
        }
        let counts = std::mem::take(&mut self.pinned.counts);
        // Picks have followed long since; it is for whoever watches how many there are.
        self.changed |= !counts.is_empty();
        for ((id, kind, cause), count) in counts {
            let keys = if count == 1 { "key" } else { "keys" };
            self.note(self.members.name(id), kind, format!("{count} {keys} {cause}"));
        }
    }

    pub(super) fn end_pins(&mut self, ended: impl Fn(&Pin) -> bool, why: &str) {
        let Self { cluster, pinned, .. } = self;
        cluster.pins.end(ended, |pin| {
            pinned.count(pin.backend, Kind::Unpinned, format!("{}: {why}", pin.owner));
        });
    }
}
