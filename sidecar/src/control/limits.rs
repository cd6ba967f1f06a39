//! How fast callers may change things: a bucket of tokens for each.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;
use tonic::Status;

use super::caller::{Account, Caller};
use super::error;

/// Changes a second of one caller, in the long run: more than a deploy of a thousand backends takes.
const RATE: u32 = 2_000;
/// Changes that may come at once.
const BURST: u32 = 4_000;
/// Callers that are remembered; who has changed nothing for the longest goes first.
const CALLERS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// When each caller's bucket is full again. One that is not here is full.
#[derive(Debug)]
pub(super) struct Limits(Mutex<LruCache<Account, Instant>>);

impl Default for Limits {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(CALLERS)))
    }
}

impl Limits {
    /// Counts a change, or refuses it.
    pub(super) fn take(&self, caller: &Caller) -> Result<(), Status> {
        let mut full_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let before = full_at.get(caller.account()).map_or(now, |at| (*at).max(now));
        let after = before + Duration::from_secs(1) / RATE;
        let empty = now + Duration::from_secs(1) / RATE * BURST;
        if after > empty {
            return Err(error::too_fast(after - empty));
        }
        full_at.put(caller.account().clone(), after);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::caller::caller;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_and_nobody_pays_for_others() {
        let limits = Limits::default();
        let (one, other) = (caller(1), caller(2));
        let passed = |caller, tries| (0..tries).filter(|_| limits.take(caller).is_ok()).count();
        assert_eq!(passed(&one, 10_000), 4_000);
        assert_eq!(passed(&other, 10), 10);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(passed(&one, 10_000), 200);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(passed(&one, 10_000), 4_000);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_told_when_to_come_back() {
        use tonic_types::StatusExt;
        let (limits, one) = (Limits::default(), caller(1));
        let refused = (0..).find_map(|_| limits.take(&one).err()).unwrap();
        let wait = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        tokio::time::advance(wait).await;
        assert!(limits.take(&one).is_ok());
    }
}
