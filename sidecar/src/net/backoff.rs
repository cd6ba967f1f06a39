//! Waiting longer after each failure.

use std::time::Duration;

/// Doubles from `first` to `longest`; what is waited lies between half of that and all of it,
/// so that a fleet which failed together does not come back together.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait after one more failure.
    pub fn failed(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait / 2 + (wait / 2).mul_f64(rng.f64())
    }

    /// The next failure is the first again.
    pub fn succeeded(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_bound_and_starts_again() {
        let seconds = Duration::from_secs;
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(seconds(1), seconds(30));
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let wait = backoff.failed(&mut rng);
            assert!(wait >= seconds(expected) / 2 && wait <= seconds(expected), "{wait:?}");
        }
        backoff.succeeded();
        assert!(backoff.failed(&mut rng) <= seconds(1));
    }
}
