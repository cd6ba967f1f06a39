//! What the history tells of backends.

use super::discovered::passing;
use super::*;
use crate::cluster::{Reported, What};

impl Fixture {
    /// How often this was noted, as `kind backend`.
    fn times(&self, what: &str) -> usize {
        self.happened().iter().filter(|(happened, _)| happened == what).count()
    }
}

#[test]
fn who_is_back_is_noted_whatever_else_lets_it_drain() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.say(0, &passing(&[1, 2, 3]));
    f.order(1, What::Drain { timeout: None });
    f.say(0, &passing(&[2, 3]));
    f.say(0, &passing(&[1, 2, 3]));
    assert_eq!((f.times("returned 10.0.0.1:1"), f.state(1)), (1, State::Draining));
    let others = [(2, Reported::Passing), (3, Reported::Passing)];
    f.say(0, &[&[(1, Reported::Maintenance)], &others[..]].concat());
    f.say(0, &passing(&[1, 2, 3]));
    assert_eq!((f.times("resumed 10.0.0.1:1"), f.state(1)), (1, State::Draining));
}
