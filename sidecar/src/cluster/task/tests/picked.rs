//! Picks, as workers make them.

use super::*;
use crate::cluster::{Key, NoPick, Pick, Picker, What, Wish};

impl Fixture {
    pub(super) fn picker(&self) -> Picker {
        Picker::new(Arc::clone(&self.cluster), fastrand::Rng::with_seed(7))
    }

    pub(super) fn pick(&self, key: Key) -> Result<Pick, NoPick> {
        self.picker()
            .pick(Wish { key, tried: &[], replayable: true, now: self.now }, Backend::may_connect)
    }
}

#[test]
fn who_was_drained_before_discovery_dropped_everyone_is_nobody() {
    let mut f = Fixture::new(false);
    assert_eq!(f.pick(Key::None).unwrap_err(), NoPick::NoBackend);
    f.discover(&[(1, 1, 0)]);
    f.order(1, What::Drain { timeout: None });
    assert_eq!(f.pick(Key::None).unwrap_err(), NoPick::NoEligibleBackend);
    f.discover(&[]);
    assert_eq!(f.pick(Key::None).unwrap_err(), NoPick::NoBackend);
}
