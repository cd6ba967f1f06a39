//! How long to wait before something is tried again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(1);

/// Pauses that double, each with up to a half of it left out, so that many do not come at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pauses: u32,
}

impl Backoff {
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = LAST.min(FIRST * (1 << self.pauses.min(10)));
        self.pauses += 1;
        pause.mul_f64(fastrand::f64().mul_add(-0.5, 1.0))
    }
}
