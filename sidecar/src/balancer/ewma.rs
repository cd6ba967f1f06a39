//! A moving average of latencies that leaps up at once and comes down slowly.
//!
//! Exponentially weighted over time, not over samples, so that it means the same for a backend
//! with ten answers a second and one with ten thousand: a sample that comes dt after the last
//! keeps e^(-dt/tau) of what was known. One that is above the average replaces it (the *peak*):
//! a backend that stalls is avoided from its first slow answer on, and has to earn its way back.
//! Reading decays too, as if answers had taken no time since: a backend that nobody picks would
//! otherwise never be found to have recovered. (Finagle's `PeakEwma`, linkerd's.)

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In milliseconds: after this long about a third of what was known still counts.
const TAU: u32 = 10_000;
/// How far a time, in milliseconds, may lie before the last one: threads read their clocks at
/// different moments. What seems to lie further back is ahead instead, after the 49 days in which
/// the milliseconds wrap round.
const BACKWARDS: u32 = 60_000;
/// Nothing was observed. The value in it is not a number, so no average is mistaken for it.
const NONE: u64 = u64::MAX;

/// Written by all workers, without locks: value and time share one word.
#[derive(Debug)]
pub struct Ewma(AtomicU64);

/// What the word holds.
#[derive(Debug, Clone, Copy)]
struct Average {
    /// A float: an integer of microseconds would round away the small steps of a busy backend.
    seconds: f32,
    /// When it was last updated.
    at: u32,
}

impl Default for Ewma {
    fn default() -> Self {
        Self(AtomicU64::new(NONE))
    }
}

impl Ewma {
    /// Takes in the latency of one answer. `now_ms` counts from any moment and may wrap.
    ///
    /// Tried twice and then given up: whoever loses two races against other workers is one of
    /// many samples of this millisecond, and no answer should wait for the sake of an average.
    pub fn observe(&self, sample: Duration, now_ms: u32) {
        let sample = sample.as_secs_f32();
        let mut current = self.0.load(Ordering::Relaxed);
        for _ in 0..2 {
            let next = match Average::unpack(current) {
                // Nothing is forgotten within a millisecond, so nothing changes: the usual case of
                // a busy backend, and then no worker writes what all of them read.
                Some(average) if sample <= average.seconds && average.age(now_ms) == 0 => return,
                Some(average) => average.with(sample, now_ms),
                None => Average { seconds: sample, at: now_ms },
            };
            match self.swap(current, next) {
                Ok(_) => return,
                Err(changed) => current = changed,
            }
        }
    }

    /// Sets it to what a probe took, if nothing was observed for `TAU`: better than no history,
    /// but no match for what requests take.
    pub fn seed(&self, sample: Duration, now_ms: u32) {
        let current = self.0.load(Ordering::Relaxed);
        if Average::unpack(current).is_none_or(|average| average.age(now_ms) >= TAU) {
            // Who came in between has observed something.
            let _ = self.swap(current, Average { seconds: sample.as_secs_f32(), at: now_ms });
        }
    }

    /// What a request is expected to take now; `None` before the first observation.
    pub fn read(&self, now_ms: u32) -> Option<Duration> {
        self.average().map(|average| seconds(average.seconds * average.kept(now_ms)))
    }

    /// The average as of the last observation, for people.
    pub fn get(&self) -> Option<Duration> {
        self.average().map(|average| seconds(average.seconds))
    }

    fn average(&self) -> Option<Average> {
        Average::unpack(self.0.load(Ordering::Relaxed))
    }

    fn swap(&self, current: u64, next: Average) -> Result<u64, u64> {
        self.0.compare_exchange(current, next.pack(), Ordering::Relaxed, Ordering::Relaxed)
    }
}

impl Average {
    fn unpack(word: u64) -> Option<Self> {
        let average = Self { seconds: f32::from_bits((word >> 32) as u32), at: word as u32 };
        (word != NONE).then_some(average)
    }

    fn pack(self) -> u64 {
        u64::from(self.seconds.to_bits()) << 32 | u64::from(self.at)
    }

    fn with(self, sample: f32, now: u32) -> Self {
        let seconds = if sample > self.seconds {
            sample
        } else {
            sample + (self.seconds - sample) * self.kept(now)
        };
        // It never goes back, or the next sample would count for time that has counted.
        Self { seconds, at: self.at.wrapping_add(self.age(now)) }
    }

    /// How much of it still counts.
    fn kept(self, now: u32) -> f32 {
        (-(self.age(now) as f32) / TAU as f32).exp()
    }

    fn age(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.at);
        if age > u32::MAX - BACKWARDS { 0 } else { age }
    }
}

fn seconds(seconds: f32) -> Duration {
    Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
