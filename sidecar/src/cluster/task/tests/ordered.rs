//! Orders for the fleet, by the names that backends have beside their addresses.

use super::*;
use crate::cluster::drain::Cause;
use crate::cluster::{FleetDrain, FleetOrder, Lease, OrderError, Owner, What};

impl Fixture {
    /// All of these run on one machine.
    fn say_on_a_machine(&mut self, ports: &[u16]) {
        let node = |port: &u16| Endpoint {
            node: Some("a-machine".into()),
            ..fixture::endpoint(*port, 1, 0)
        };
        let endpoints = ports.iter().map(node).collect();
        self.event(Event::Discovered(Answer::new(0, SystemTime::UNIX_EPOCH, endpoints)));
    }
}

const DRAIN: FleetOrder =
    FleetOrder { weight: None, drain: Some(FleetDrain { timeout: Some(Duration::ZERO) }) };
const WEIGHT: FleetOrder = FleetOrder { weight: Some(5), drain: None };

#[test]
fn a_name_of_two_is_of_one_when_the_other_is_gone() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.say_on_a_machine(&[1, 2]);
    f.orders(&[("a-machine", WEIGHT)]);
    f.say_on_a_machine(&[1]);
    assert_eq!(f.entry(1).assigned, 256);
    // It has drained by then.
    f.wait(Duration::from_secs(2));
    assert_eq!(f.entry(1).assigned, 5 * 256);
}

#[test]
fn orders_under_several_names_of_one_add_up() {
    let mut f = Fixture::new(false);
    f.say_on_a_machine(&[1]);
    f.orders(&[("10.0.0.1:1", WEIGHT), ("a-machine", DRAIN)]);
    assert_eq!((f.entry(1).assigned, f.state(1)), (5 * 256, State::Draining));
}

fn app(name: &str, lease: Option<u64>) -> Owner {
    Owner::app(name.into(), lease.map(Lease::new), "uid 1000".into())
}

impl Fixture {
    fn order_of(&mut self, owner: Owner, port: u16, what: What, ttl: Option<u64>) {
        let (order, _) = Order::new(self.backend(port).name.to_string(), what);
        let ttl = ttl.map(Duration::from_secs);
        self.event(Event::Order(order.by(owner).lasting(ttl)));
    }

    /// The causes of what of this kind has happened.
    fn noted(&self, kind: Kind) -> Vec<String> {
        let notes = self.task.shared.history.since(0, None);
        notes.into_iter().filter(|note| note.kind == kind).map(|note| note.cause).collect()
    }

    fn assigned(&self, port: u16) -> u32 {
        self.entry(port).assigned / 256
    }
}

#[test]
fn what_a_lease_holds_ends_with_it_and_nothing_else_does() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 3, 0), (2, 3, 0)]);
    f.order_of(app("a", Some(1)), 1, What::Weight { weight: 9 }, None);
    f.order_of(app("b", Some(2)), 1, What::Factor { factor: 512 }, None);
    f.order_of(app("a", Some(1)), 2, What::Drain { timeout: None }, None);
    f.order_of(Owner::admin(), 2, What::Drain { timeout: None }, None);
    assert_eq!((f.assigned(1), f.state(2)), (18, State::Draining));
    f.event(Event::LeaseEnded(1));
    // The operator's drain stands.
    assert_eq!((f.assigned(1), f.state(2)), (6, State::Draining));
    f.order_of(Owner::admin(), 2, What::Resume { all: false }, None);
    assert_eq!(f.state(2), State::Ready);
    f.event(Event::LeaseEnded(2));
    assert_eq!(f.assigned(1), 3);
}

#[test]
fn a_lease_that_ends_while_a_backend_is_away_has_ended_when_it_is_back() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.order_of(app("a", Some(1)), 1, What::Weight { weight: 9 }, None);
    f.order_of(app("a", Some(1)), 1, What::Drain { timeout: None }, None);
    f.discover(&[(2, 1, 0)]);
    f.wait(Duration::from_secs(5));
    assert_eq!(f.task.members.iter().count(), 1);
    f.event(Event::LeaseEnded(1));
    let noted =
        |kind| f.noted(kind).contains(&"by order of a (uid 1000): the lease has ended".into());
    assert!(noted(Kind::Weight) && noted(Kind::Resumed));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!((f.assigned(1), f.state(1)), (1, State::Ready));
}

/// It would have held until the next sweep.
#[test]
fn time_that_ends_while_a_backend_is_away_has_ended_when_it_is_back() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.order_of(app("a", None), 1, What::Weight { weight: 9 }, Some(10));
    f.order_of(app("b", None), 1, What::Weight { weight: 5 }, Some(60));
    f.order_of(app("a", None), 1, What::Drain { timeout: None }, Some(10));
    f.discover(&[(2, 1, 0)]);
    f.wait(Duration::from_millis(10_200));
    assert_eq!(f.task.members.iter().count(), 1);
    let noted = |kind| f.noted(kind).contains(&"by order of a (uid 1000): its time is over".into());
    assert!(noted(Kind::Weight) && noted(Kind::Resumed));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!((f.assigned(1), f.state(1)), (5, State::Ready));
}

/// The order was there before discovery dropped the backend, whoever else takes one back.
#[test]
fn the_first_cause_of_a_drain_is_the_one_that_began_first() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.order_of(app("a", None), 1, What::Drain { timeout: None }, Some(60));
    f.order_of(app("b", None), 1, What::Drain { timeout: None }, Some(60));
    f.discover(&[(2, 1, 0)]);
    f.order_of(app("b", None), 1, What::Resume { all: false }, None);
    assert_eq!(f.entry(1).leaving.map(|leaving| leaving.cause), Some(Cause::Order));
}

/// It may have been under way when the lease ended.
#[test]
fn an_order_that_comes_after_its_lease_is_refused() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0)]);
    let lease = Lease::new(1);
    let owner = Owner::app("a".into(), Some(lease.clone()), "".into());
    lease.end();
    f.event(Event::LeaseEnded(1));
    let (order, outcome) = Order::new("10.0.0.1:1".into(), What::Weight { weight: 9 });
    f.event(Event::Order(order.by(owner)));
    assert_eq!(outcome.blocking_recv().unwrap().unwrap_err(), OrderError::Lease);
    assert_eq!(f.assigned(1), 1);
}

#[test]
fn time_ends_an_order_and_leaves_those_of_others() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 3, 0), (2, 3, 0)]);
    f.order_of(app("a", None), 1, What::Weight { weight: 9 }, Some(10));
    f.order_of(app("b", None), 1, What::Weight { weight: 5 }, Some(5));
    f.order_of(app("b", None), 2, What::Drain { timeout: None }, Some(5));
    assert_eq!((f.assigned(1), f.state(2)), (5, State::Draining));
    f.wait(Duration::from_secs(4));
    assert_eq!((f.assigned(1), f.state(2)), (5, State::Draining));
    f.wait(Duration::from_millis(1_200));
    assert_eq!((f.assigned(1), f.state(2)), (9, State::Ready));
    f.wait(Duration::from_secs(5));
    assert_eq!(f.assigned(1), 3);
}

#[test]
fn an_owner_takes_back_its_own_and_all_means_everybodys() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 3, 0), (2, 3, 0)]);
    f.order_of(app("a", None), 1, What::Weight { weight: 9 }, Some(60));
    f.order_of(app("b", None), 1, What::ResetWeight { all: false }, None);
    f.order_of(app("a", Some(7)), 1, What::ResetWeight { all: false }, None);
    assert_eq!(f.assigned(1), 9);
    f.order_of(app("b", None), 1, What::ResetWeight { all: true }, None);
    assert_eq!(f.assigned(1), 3);
}

/// What the app saw counts like what was seen here.
#[test]
fn failures_that_the_app_reports_eject_a_backend() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.backend(1).report(Outcome::Reset, None, 4, f.now);
    f.backend(1).report(Outcome::Success, Some(Duration::from_millis(5)), 1, f.now);
    f.wait(Duration::from_secs(1));
    assert_eq!(f.state(1), State::Ready);
    assert_eq!(f.backend(1).ewma(), Some(Duration::from_millis(5)));
    f.backend(1).report(Outcome::GrpcError, None, 5, f.now);
    f.wait(Duration::from_millis(200));
    assert_eq!((f.state(1), f.state(2)), (State::Ejected, State::Ready));
}
