//! What the history tells of backends.

use super::discovered::passing;
use super::*;
use crate::cluster::{Key, Reported, What};

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

#[test]
fn an_ejection_that_ends_with_a_failed_trial_is_noted() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.eject(1);
    let mut trial = f.pick(Key::None).unwrap();
    assert!(trial.is_trial());
    trial.answered(true, None);
    drop(trial);
    // Now it would be the last one, which is not ejected.
    f.discover(&[(1, 1, 0)]);
    f.deliver();
    assert_eq!((f.candidates(), f.times("recovered 10.0.0.1:1")), (vec![1], 1));
}

/// An answer that changed every weight pushed all else out of the history.
#[test]
fn of_very_many_some_are_noted() {
    let mut f = Fixture::new(false);
    let weighted = |weight| (1..=200).map(|port| (port, weight, 0)).collect::<Vec<_>>();
    f.discover(&weighted(1));
    let before = f.happened().len();
    f.discover(&weighted(2));
    let happened = f.happened();
    assert_eq!(happened.len() - before, NOTED + 1);
    assert!(happened.last().unwrap().1.starts_with("136 more"), "{happened:?}");
}
