//! What probes and traffic show, and what follows.

use super::*;
use crate::cluster::{Key, What};

#[test]
fn a_slow_start_begins_with_the_first_verdict_however_late_that_comes() {
    let second = Duration::from_secs(1);
    let mut f = Fixture::with(true, |settings| settings.slow_start = Some(second));
    f.discover(&[(1, 10, 0)]);
    f.probe(1, true);
    f.discover(&[(1, 10, 0), (2, 10, 0)]);
    f.wait(3 * second);
    f.probe(2, true);
    assert_eq!((f.entry(1).weight, f.entry(2).weight), (2560, 256));
    f.wait(2 * second);
    assert_eq!(f.entry(2).weight, 2560);
}

impl Fixture {
    /// What workers have said so far.
    pub(super) fn deliver(&mut self) {
        while let Ok(event) = self.task.inbox.try_recv() {
            self.event(event);
        }
    }
}

#[test]
fn a_trial_that_ends_after_its_backend_has_left_is_not_the_last() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.eject(1);
    let mut trial = f.pick(Key::None).unwrap();
    assert!(trial.is_trial());
    trial.answered(false, None);
    drop(trial);
    f.discover(&[(2, 1, 0)]);
    f.wait(Duration::from_secs(2));
    assert_eq!(f.task.members.iter().count(), 1);
    f.deliver();
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.eject(1);
    assert!(f.pick(Key::None).unwrap().is_trial());
}

#[test]
fn a_trial_that_fails_while_its_backend_drains_does_not_end_the_ejection() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.eject(1);
    let mut trial = f.pick(Key::None).unwrap();
    f.order(1, What::Drain { timeout: None });
    trial.answered(true, None);
    drop(trial);
    f.deliver();
    f.order(1, What::Resume { all: false });
    assert_eq!((f.state(1), f.candidates()), (State::Ejected, vec![2]));
    assert!(f.pick(Key::None).unwrap().is_trial());
}

#[test]
fn the_last_backend_is_not_ejected_though_there_is_a_stalled_one() {
    let mut f = Fixture::with(false, |settings| settings.panic_threshold = 0);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let (stopped, other) = (f.backend(1), f.backend(2));
    let answer = |backend: &Backend, outcome, now| {
        backend.begin();
        backend.answered(Duration::from_millis(1), None, true, now);
        backend.end(outcome, true, false);
    };
    answer(&stopped, Outcome::Success, f.now);
    f.wait(Duration::from_millis(200));
    (0..5).for_each(|_| assert!(stopped.begin()));
    for _ in 0..5 {
        answer(&other, Outcome::Success, f.now);
        f.wait(Duration::from_millis(100));
    }
    assert_eq!((f.state(1), f.candidates()), (State::Ejected, vec![2]));
    (0..9).for_each(|_| answer(&other, Outcome::Http5xx, f.now));
    f.wait(Duration::from_millis(200));
    assert_eq!((f.state(2), f.candidates()), (State::Ready, vec![2]));
}
