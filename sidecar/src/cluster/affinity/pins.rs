//! Pins: keys that an app has bound to backends.
//!
//! The cluster's task writes, workers read on the way of a request that carries a key; so the map is
//! one that readers never wait for.

use std::sync::atomic::{AtomicUsize, Ordering};

use papaya::HashMap;
use tokio::time::Instant;

use crate::cluster::owner::Owner;

/// Keys of one cluster that may be pinned at a time.
pub const MAX_PINS: usize = 65_536;
/// The length of a key in bytes.
pub const MAX_KEY: usize = 256;

/// What a key is bound to.
#[derive(Debug, Clone)]
pub struct Pin {
    /// The id of a backend.
    pub backend: u64,
    pub owner: Owner,
    /// `None`: as long as the lease of its owner, or until it is taken back.
    pub until: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Pins {
    map: HashMap<Box<[u8]>, Pin>,
    /// How many keys are pinned to each backend, by its id; those without any are not here.
    counts: HashMap<u64, u32>,
    /// Known without a look into the map, since nearly always there is nothing in it.
    count: AtomicUsize,
}

impl Pins {
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of the backend that this key is pinned to.
    pub fn backend(&self, key: &[u8]) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        self.map.pin().get(key).map(|pin| pin.backend)
    }

    pub fn get(&self, key: &[u8]) -> Option<Pin> {
        self.map.pin().get(key).cloned()
    }

    /// How many keys are pinned to the backend with this id.
    pub fn count(&self, backend: u64) -> u32 {
        self.counts.pin().get(&backend).copied().unwrap_or_default()
    }

    /// Binds a key, wherever it was bound before; false when there are too many.
    pub(in crate::cluster) fn set(&self, key: Box<[u8]>, pin: Pin) -> bool {
        let map = self.map.pin();
        if self.len() >= MAX_PINS && !map.contains_key(&key) {
            return false;
        }
        self.one_more(pin.backend);
        match map.insert(key, pin) {
            Some(before) => self.one_less(before.backend),
            None => drop(self.count.fetch_add(1, Ordering::Relaxed)),
        }
        true
    }

    pub(in crate::cluster) fn clear(&self, key: &[u8]) -> Option<Pin> {
        let cleared = self.map.pin().remove(key).cloned();
        if let Some(pin) = &cleared {
            self.one_less(pin.backend);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        cleared
    }

    /// Takes back those that `ended` says, telling of each.
    pub(in crate::cluster) fn end(&self, ended: impl Fn(&Pin) -> bool, mut tell: impl FnMut(&Pin)) {
        let map = self.map.pin();
        for (key, pin) in map.iter().filter(|(_, pin)| ended(pin)) {
            tell(pin);
            map.remove(key);
            self.one_less(pin.backend);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// There is one writer, so that nothing comes between reading a count and writing it.
    fn one_more(&self, backend: u64) {
        self.counts.pin().insert(backend, self.count(backend) + 1);
    }

    fn one_less(&self, backend: u64) {
        match self.count(backend) {
            0 | 1 => drop(self.counts.pin().remove(&backend).copied()),
            count => drop(self.counts.pin().insert(backend, count - 1).copied()),
        }
    }

    /// When the first of them ends by itself.
    pub(in crate::cluster) fn next_end(&self) -> Option<Instant> {
        self.map.pin().values().filter_map(|pin| pin.until).min()
    }
}
