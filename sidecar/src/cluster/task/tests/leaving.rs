//! Backends that are to be left.

use super::*;
use crate::cluster::{Leaving, What};

impl Fixture {
    pub(super) fn order(&mut self, port: u16, what: What) {
        self.order_for(port, what, None);
    }

    pub(super) fn order_for(&mut self, port: u16, what: What, ttl: Option<Duration>) {
        let (order, _) = Order::new(self.backend(port).name.to_string(), what);
        self.event(Event::Order(order.lasting(ttl)));
    }

    fn leaving(&self, port: u16) -> Option<Leaving> {
        let snapshot = self.cluster.snapshot();
        let place = snapshot.find(self.backend(port).id).unwrap();
        snapshot.entries[place].leaving
    }
}

/// A client with a cookie sends one short request after another: hardly ever is one in flight when
/// the cluster looks, and still its backend is not done.
#[test]
fn a_drain_is_not_done_while_short_work_keeps_coming() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.order(1, What::Drain { timeout: None });
    let backend = f.backend(1);
    for _ in 0..20 {
        backend.begin();
        backend.answered(Duration::from_millis(1), None, true, f.now);
        backend.end(Outcome::Success, true, false);
        f.wait(Duration::from_millis(300));
        assert!(f.leaving(1).unwrap().keeps_affinity);
    }
    f.wait(Duration::from_millis(1200));
    assert!(f.leaving(1).unwrap().done);
}

/// Until a snapshot says that it is done, a worker may still pick it for its affinity.
#[test]
fn a_removed_backend_goes_with_nothing_in_flight_after_workers_were_told() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.discover(&[(2, 1, 0)]);
    let backend = f.backend(1);
    let told = |f: &Fixture| f.leaving(1).is_some_and(|leaving| leaving.done);
    for _ in 0..200 {
        assert_eq!(f.task.members.iter().count(), 2);
        if told(&f) {
            break;
        }
        f.wait(PUBLISH_EVERY);
    }
    assert!(told(&f));
    backend.begin();
    f.wait(Duration::from_secs(2));
    assert_eq!(f.task.members.iter().count(), 2);
    backend.end(Outcome::Success, false, true);
    f.wait(Duration::from_millis(200));
    assert_eq!(f.task.members.iter().count(), 1);
}

#[test]
fn who_comes_back_does_not_bring_the_retries_for_its_past_requests() {
    let mut f = Fixture::with(false, |settings| settings.retry.min_per_second = 0);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let backend = f.backend(1);
    for _ in 0..1000 {
        backend.begin();
        backend.answered(Duration::from_millis(1), None, true, f.now);
        backend.end(Outcome::Success, true, false);
    }
    f.wait(Duration::from_millis(200));
    assert!(f.cluster.budget.take());
    f.discover(&[(2, 1, 0)]);
    f.wait(Duration::from_secs(20));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.wait(Duration::from_millis(200));
    assert!(!f.cluster.budget.take());
}
