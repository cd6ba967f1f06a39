//! Keys that apps bind to backends.

use tokio::sync::oneshot;

use super::*;
use crate::cluster::affinity::MAX_PINS;
use crate::cluster::{Lease, OrderError, Owner, Pinning, Reason, Unpinning};

type Outcome = Option<Result<Arc<str>, OrderError>>;

impl Fixture {
    fn pin(&mut self, key: &[u8], port: u16, lease: Option<u64>, ttl: Option<u64>) -> Outcome {
        let (reply, outcome) = oneshot::channel();
        let owner = Owner::app("checkout".into(), lease.map(Lease::new), "".into());
        let (backend, ttl) = (format!("10.0.0.1:{port}"), ttl.map(Duration::from_secs));
        let pinning = Pinning { key: key.into(), backend, owner, ttl, reply };
        self.task.apply(Event::Pin(pinning), self.now);
        outcome.blocking_recv().expect("an answer, at once")
    }

    /// Where a key leads: the port.
    fn leads(&self, key: &[u8]) -> (Reason, Option<u16>) {
        let snapshot = self.cluster.snapshot();
        let found = self.cluster.whereabouts(&snapshot, key, self.now);
        let port = |place: usize| fixture::port(&snapshot.entries[place].backend.endpoint.address);
        (found.reason, found.place.map(port))
    }

    fn notes(&self) -> Vec<(Kind, String)> {
        let notes = self.task.shared.history.since(0, None);
        let about = |kind| matches!(kind, Kind::Pinned | Kind::Unpinned);
        notes.into_iter().filter(|n| about(n.kind)).map(|n| (n.kind, n.cause)).collect()
    }
}

#[test]
fn a_key_goes_where_it_is_pinned_until_that_ends() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0), (3, 1, 1)]);
    assert_eq!(f.leads(b"k"), (Reason::Policy, None));
    assert_eq!(f.pin(b"k", 2, None, Some(10)).unwrap().unwrap(), "10.0.0.1:2".into());
    // Of a higher tier, too: the app has said so.
    assert!(matches!(f.pin(b"l", 3, Some(5), None), Some(Ok(_))));
    assert_eq!(f.leads(b"k"), (Reason::Pin, Some(2)));
    assert_eq!(f.leads(b"l"), (Reason::Pin, Some(3)));
    assert_eq!((f.leads(b"K").0, f.cluster.pins.len()), (Reason::Policy, 2));
    // The last one counts.
    assert!(matches!(f.pin(b"k", 1, None, Some(5)), Some(Ok(_))));
    assert_eq!(f.leads(b"k"), (Reason::Pin, Some(1)));
    f.wait(Duration::from_millis(4_900));
    assert_eq!(f.leads(b"k"), (Reason::Pin, Some(1)));
    f.wait(Duration::from_millis(200));
    assert_eq!((f.leads(b"k").0, f.leads(b"l")), (Reason::Policy, (Reason::Pin, Some(3))));
    f.event(Event::LeaseEnded(4));
    assert_eq!(f.cluster.pins.len(), 1);
    f.event(Event::LeaseEnded(5));
    assert!(f.cluster.pins.is_empty());
}

#[test]
fn a_pin_to_a_backend_that_may_not_be_used_leads_nowhere_until_it_may() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.probe(1, true);
    f.probe(2, true);
    assert!(matches!(f.pin(b"k", 1, None, None), Some(Ok(_))));
    (0..3).for_each(|_| f.probe(1, false));
    assert_eq!(f.leads(b"k"), (Reason::Policy, None));
    (0..2).for_each(|_| f.probe(1, true));
    assert_eq!(f.leads(b"k"), (Reason::Pin, Some(1)));
}

#[test]
fn pins_are_bounded_and_nobody_is_pushed_out() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0)]);
    for key in 0..MAX_PINS as u32 {
        assert!(matches!(f.pin(&key.to_be_bytes(), 1, Some(1), None), Some(Ok(_))));
    }
    assert_eq!(f.pin(b"one more", 1, Some(1), None), None);
    assert!(matches!(f.pin(&7u32.to_be_bytes(), 1, Some(2), None), Some(Ok(_))));
    let id = f.backend(1).id;
    assert_eq!(f.cluster.pins.count(id), MAX_PINS as u32);
    f.event(Event::LeaseEnded(1));
    assert_eq!(f.cluster.pins.len(), 1);
}

#[test]
fn who_is_unknown_gets_no_pin_and_thousands_of_pins_are_one_event() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0)]);
    let unknown = f.pin(b"k", 9, None, None);
    assert_eq!(unknown, Some(Err(OrderError::Unknown("10.0.0.1:9".into()))));
    for key in 0..1000u32 {
        assert!(matches!(f.pin(&key.to_be_bytes(), 1, None, None), Some(Ok(_))));
    }
    let (reply, cleared) = oneshot::channel();
    let owner = Owner::admin();
    f.event(Event::Unpin(Unpinning { key: 0u32.to_be_bytes().into(), owner, reply }));
    assert_eq!(cleared.blocking_recv(), Ok(true));
    f.wait(Duration::from_millis(200));
    let expected = [
        (Kind::Pinned, "1000 keys by order of checkout".to_owned()),
        (Kind::Unpinned, "1 key by order".to_owned()),
    ];
    assert_eq!(f.notes(), expected);
}

#[test]
fn the_end_of_a_pin_is_told_of_its_backend_though_that_is_away() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert!(matches!(f.pin(b"k", 1, Some(1), None), Some(Ok(_))));
    f.discover(&[(2, 1, 0)]);
    f.wait(Duration::from_secs(5));
    assert_eq!(f.task.members.iter().count(), 1);
    f.event(Event::LeaseEnded(1));
    f.wait(Duration::from_millis(100));
    let notes = f.task.shared.history.since(0, None);
    let ended = notes.iter().find(|note| note.kind == Kind::Unpinned);
    assert_eq!(ended.and_then(|note| note.backend.as_deref()), Some("10.0.0.1:1"));
}

/// Nobody is left whose measurements would be looked at.
#[test]
fn pins_end_in_a_cluster_that_is_empty() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0)]);
    assert!(matches!(f.pin(b"k", 1, None, Some(600)), Some(Ok(_))));
    f.discover(&[]);
    f.wait(REMEMBER + Duration::from_secs(5));
    assert_eq!(f.cluster.pins.len(), 1);
    let end = f.now + Duration::from_secs(600);
    while let Some(wake) = f.task.next_wake().filter(|wake| *wake < end) {
        f.task.tick(wake);
    }
    assert!(f.cluster.pins.is_empty());
    let noted = f.notes().pop();
    assert_eq!(
        noted,
        Some((Kind::Unpinned, "1 key by order of checkout: their time is over".into()))
    );
}
