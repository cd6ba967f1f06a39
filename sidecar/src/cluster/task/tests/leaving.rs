//! Backends that are to be left.

use super::*;
use crate::cluster::{Leaving, What};

impl Fixture {
    pub(super) fn order(&mut self, port: u16, what: What) {
        let (order, _) = Order::new(self.backend(port).name.to_string(), what);
        self.event(Event::Order(order));
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
