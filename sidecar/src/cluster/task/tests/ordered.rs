//! Orders for the fleet, by the names that backends have beside their addresses.

use super::*;
use crate::cluster::{FleetDrain, FleetOrder};

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
