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

    /// How many keys are pinned to each backend, by its id.
    pub fn counts(&self) -> std::collections::HashMap<u64, u32> {
        let mut counts = std::collections::HashMap::new();
        if !self.is_empty() {
            self.map.pin().values().for_each(|pin| *counts.entry(pin.backend).or_default() += 1);
        }
        counts
    }

    /// Binds a key, wherever it was bound before; false when there are too many.
    pub(in crate::cluster) fn set(&self, key: Box<[u8]>, pin: Pin) -> bool {
        let map = self.map.pin();
        if self.len() >= MAX_PINS && !map.contains_key(&key) {
            return false;
        }
        if map.insert(key, pin).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    pub(in crate::cluster) fn clear(&self, key: &[u8]) -> Option<Pin> {
        let cleared = self.map.pin().remove(key).cloned();
        self.count.fetch_sub(usize::from(cleared.is_some()), Ordering::Relaxed);
        cleared
    }

    /// Takes back those that `ended` says, telling of each.
    pub(in crate::cluster) fn end(&self, ended: impl Fn(&Pin) -> bool, mut tell: impl FnMut(&Pin)) {
        let map = self.map.pin();
        for (key, pin) in map.iter().filter(|(_, pin)| ended(pin)) {
            tell(pin);
            map.remove(key);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// When the first of them ends by itself.
    pub(in crate::cluster) fn next_end(&self) -> Option<Instant> {
        self.map.pin().values().filter_map(|pin| pin.until).min()
    }
}
