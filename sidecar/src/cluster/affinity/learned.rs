//! What was learned: which backend a key was sent to.
//!
//! All workers share it, since the connections of one app may be anywhere. It is in shards, each
//! behind a lock that is held for a look into a map, so that workers rarely meet.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// A power of two, so that the first bits of a key say which.
const SHARDS: usize = 16;
/// Keys of all shards. More push out those that were not asked for the longest.
const MAX_LEARNED: usize = 65_536;
const MAX_SHARD: usize = MAX_LEARNED / SHARDS;
/// Forgotten at a time when their time is over, so that nobody waits for a great sweep.
const SWEPT: usize = 2;

/// Key to backend, for as long as the key is in use and for `ttl` after that.
#[derive(Debug)]
pub struct Learned {
    ttl: Duration,
    shards: [Mutex<LruCache<u64, Lesson>>; SHARDS],
}

#[derive(Debug)]
struct Lesson {
    /// The id of a backend.
    backend: u64,
    expires: Instant,
}

impl Learned {
    pub fn new(ttl: Duration) -> Self {
        // A bounded one would take its room at once, for keys that may never come.
        Self { ttl, shards: std::array::from_fn(|_| Mutex::new(LruCache::unbounded())) }
    }

    /// The id of the backend for `key`, a hash with good bits throughout. Its time begins anew
    /// when half of it is over.
    pub fn get(&self, key: u64, now: Instant) -> Option<u64> {
        let mut shard = self.shard(key);
        let lesson = shard.get_mut(&key)?;
        if lesson.expires <= now {
            shard.pop(&key);
            return None;
        }
        if lesson.expires - now < self.ttl / 2 {
            lesson.expires = now + self.ttl;
        }
        Some(lesson.backend)
    }

    /// From now on `key` goes to `backend`, wherever it went before.
    pub fn learn(&self, key: u64, backend: u64, now: Instant) {
        let mut shard = self.shard(key);
        for _ in 0..SWEPT {
            match shard.peek_lru() {
                Some((_, oldest)) if oldest.expires <= now => drop(shard.pop_lru()),
                _ => break,
            }
        }
        shard.put(key, Lesson { backend, expires: now + self.ttl });
        if shard.len() > MAX_SHARD {
            shard.pop_lru();
        }
    }

    pub fn forget(&self, key: u64) {
        self.shard(key).pop(&key);
    }

    /// Keys held, some of which may have reached their end.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, LruCache<u64, Lesson>> {
        locked(&self.shards[(key >> (u64::BITS - SHARDS.ilog2())) as usize])
    }
}

/// Every change is a single call, so a panic while it was held left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Keys with good bits throughout, as a hash gives.
    fn keys(count: u64) -> impl Iterator<Item = u64> {
        (1..=count).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    #[test]
    fn a_key_goes_where_it_went_last_until_it_is_forgotten() {
        let (learned, now) = (Learned::new(MINUTE), Instant::now());
        assert_eq!(learned.get(1, now), None);
        learned.learn(1, 10, now);
        learned.learn(u64::MAX, 30, now);
        learned.learn(1, 20, now);
        assert_eq!((learned.get(1, now), learned.get(u64::MAX, now)), (Some(20), Some(30)));
        learned.forget(1);
        assert_eq!((learned.get(1, now), learned.len()), (None, 1));
    }

    #[test]
    fn its_time_begins_anew_past_half_of_it() {
        let (learned, start) = (Learned::new(MINUTE), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for key in [1, 2] {
            learned.learn(key, 10, start);
        }
        // Asked for before half of its time: it ends when it would have ended.
        assert_eq!(learned.get(1, at(30)), Some(10));
        assert_eq!(learned.get(2, at(31)), Some(10));
        assert_eq!((learned.get(1, at(60)), learned.get(2, at(60))), (None, Some(10)));
        assert_eq!(learned.get(2, at(90)), Some(10));
        assert_eq!((learned.get(2, at(151)), learned.len()), (None, 0));
    }

    #[test]
    fn above_the_bound_whoever_was_not_asked_for_the_longest_goes() {
        let (learned, now) = (Learned::new(MINUTE), Instant::now());
        let favourite = keys(1).next().unwrap();
        for key in keys(4 * MAX_LEARNED as u64) {
            learned.learn(key, key, now);
            assert_eq!(learned.get(favourite, now), Some(favourite));
        }
        assert_eq!(learned.len(), MAX_LEARNED);
        let last = keys(4 * MAX_LEARNED as u64).last().unwrap();
        assert_eq!(learned.get(last, now), Some(last));
        assert_eq!(learned.get(keys(2).last().unwrap(), now), None);
    }

    #[test]
    fn what_nobody_asks_for_any_more_makes_room_for_what_comes() {
        let (learned, start) = (Learned::new(MINUTE), Instant::now());
        keys(1_000).for_each(|key| learned.learn(key, 1, start));
        keys(2_000).skip(1_000).for_each(|key| learned.learn(key, 1, start + MINUTE));
        assert_eq!(learned.len(), 1_000);
    }

    #[test]
    fn all_workers_see_the_same() {
        let (learned, now) = (Learned::new(MINUTE), Instant::now());
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let learned = &learned;
                scope.spawn(move || {
                    for key in keys(4_000).filter(|key| key % 4 == worker) {
                        learned.learn(key, worker, now);
                    }
                });
            }
        });
        for key in keys(4_000) {
            assert_eq!(learned.get(key, now), Some(key % 4));
        }
    }
}
