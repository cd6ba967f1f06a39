//! What sources say, and what is not believed at once.

use super::*;
use crate::cluster::{FleetDrain, FleetOrder, FleetOrders, Reported, What};
use crate::config::OnLeaving;

const HOLD: Duration = Duration::from_secs(60);

impl Fixture {
    /// An answer of one of several sources, with what is said of each endpoint.
    pub(super) fn say(&mut self, source: usize, endpoints: &[(u16, Reported)]) {
        let endpoint = |(port, reported): &(u16, Reported)| Endpoint {
            reported: *reported,
            ..fixture::endpoint(*port, 1, 0)
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        let answer = Answer::new(source, SystemTime::UNIX_EPOCH, endpoints);
        self.event(Event::Discovered(answer));
    }

    fn source_fails(&mut self, source: usize) {
        let at = SystemTime::UNIX_EPOCH;
        self.event(Event::DiscoveryFailed { source, at, error: "timeout".into() });
    }

    pub(super) fn happened(&self) -> Vec<(String, String)> {
        let all = self.task.shared.history.since(0, None);
        let text = |happened: crate::cluster::Happened| {
            let backend = happened.backend.map(|backend| backend.to_string()).unwrap_or_default();
            (format!("{} {backend}", happened.kind.name()), happened.cause)
        };
        all.into_iter().map(text).collect()
    }

    pub(super) fn orders(&mut self, orders: &[(&str, FleetOrder)]) {
        let named = |(name, order): &(&str, FleetOrder)| ((*name).to_owned(), *order);
        self.event(Event::Fleet(orders.iter().map(named).collect::<FleetOrders>()));
    }
}

pub(super) fn passing(ports: &[u16]) -> Vec<(u16, Reported)> {
    ports.iter().map(|port| (*port, Reported::Passing)).collect()
}

fn several_sources(settings: &mut config::Cluster) {
    settings.sources = vec![settings.sources[0].clone(); 2];
}

#[test]
fn who_is_dropped_with_more_than_half_stays_for_a_while() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2, 3, 4]));
    f.say(0, &passing(&[1]));
    assert_eq!(f.candidates(), [1, 2, 3, 4]);
    f.wait(HOLD - Duration::from_secs(1));
    // The same once more is no news, and holds nobody for longer.
    f.say(0, &passing(&[1]));
    assert_eq!(f.candidates(), [1, 2, 3, 4]);
    f.wait(Duration::from_secs(1));
    assert_eq!(f.candidates(), [1]);
    let happened = f.happened();
    let cause = "absent from the SRV answer of 00:00:00 with too many others, kept for 1m while \
                 it passes its checks";
    assert!(happened.contains(&("suspect 10.0.0.1:2".into(), cause.into())), "{happened:?}");
    assert!(happened.iter().any(|(what, _)| what == "removed 10.0.0.1:2"), "{happened:?}");
}

#[test]
fn smaller_removals_and_those_of_two_act_at_once() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2, 3, 4]));
    f.say(0, &passing(&[1, 2]));
    assert_eq!(f.candidates(), [1, 2]);
    f.say(0, &passing(&[1]));
    assert_eq!(f.candidates(), [1]);
    let cause = "absent from the SRV answer of 00:00:00".to_owned();
    assert!(f.happened().contains(&("removed 10.0.0.1:2".into(), cause)));
    // But the last one is missed.
    f.say(0, &[]);
    assert_eq!(f.candidates(), [1]);
    f.wait(HOLD);
    assert_eq!(f.candidates(), [0u16; 0]);
}

/// As a server does that gives out some of its records at a time.
#[test]
fn answers_of_one_each_lose_nobody_who_comes_again() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2, 3, 4]));
    for round in 0..40 {
        f.wait(HOLD / 8);
        f.say(0, &passing(&[round % 4 + 1]));
        assert_eq!(f.candidates(), [1, 2, 3, 4]);
    }
}

#[test]
fn a_suspect_that_fails_its_checks_goes() {
    let mut f = Fixture::new(true);
    f.say(0, &passing(&[1, 2, 3]));
    (1..=3).for_each(|port| f.probe(port, true));
    f.say(0, &passing(&[1]));
    assert_eq!(f.candidates(), [1, 2, 3]);
    for _ in 0..3 {
        f.probe(2, false);
    }
    f.wait(Duration::from_millis(200));
    assert_eq!(f.candidates(), [1, 3]);
    assert_eq!(f.state(2), State::Draining);
}

#[test]
fn critical_is_unhealthy_and_never_used() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.say(0, &passing(&[1, 2, 3]));
    f.say(0, &[(1, Reported::Critical), (2, Reported::Passing), (3, Reported::Passing)]);
    assert_eq!((f.candidates(), f.state(1)), (vec![2, 3], State::Unhealthy));
    f.say(0, &[(1, Reported::Critical)]);
    f.wait(Duration::from_secs(40));
    // Not even in panic.
    assert_eq!((f.candidates(), f.state(1)), (vec![], State::Unhealthy));
    f.say(0, &passing(&[1]));
    assert_eq!((f.candidates(), f.state(1)), (vec![1], State::Ready));
}

#[test]
fn critical_all_at_once_is_not_believed_at_once() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2, 3]));
    f.say(0, &[1, 2, 3].map(|port| (port, Reported::Critical)));
    assert_eq!(f.candidates(), [1, 2, 3]);
    f.wait(HOLD);
    assert_eq!((f.candidates(), f.state(1)), (vec![], State::Unhealthy));
    // They are not gone.
    let happened = f.happened();
    assert!(happened.iter().any(|(what, _)| what == "unhealthy 10.0.0.1:1"), "{happened:?}");
    assert!(!happened.iter().any(|(what, _)| what.starts_with("removed")), "{happened:?}");
}

#[test]
fn what_is_decided_acts_at_once_though_it_was_doubted_before() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2, 3]));
    f.say(0, &[]);
    assert_eq!(f.candidates(), [1, 2, 3]);
    let nobody = Answer::new(0, SystemTime::UNIX_EPOCH, Vec::new());
    f.event(Event::Discovered(Answer { decided: true, ..nobody }));
    assert_eq!(f.candidates(), [0u16; 0]);
}

/// What was awaited for five seconds was the other source, and meanwhile there was nobody.
#[test]
fn who_served_from_memory_is_not_emptied_by_its_own_answer() {
    let mut f = Fixture::with(false, several_sources);
    let at = SystemTime::now();
    f.task.remember(1, at, vec![fixture::endpoint(1, 1, 0)], HOLD);
    f.wait(Duration::from_millis(500));
    assert_eq!(f.candidates(), [1]);
    f.say(1, &passing(&[1, 2]));
    assert_eq!(f.candidates(), [1, 2]);
    assert!(!f.cluster.snapshot().from_memory);
}

#[test]
fn work_at_who_is_critical_is_cut_in_time_though_it_fails_its_checks_as_well() {
    let mut f = Fixture::with(true, |settings| settings.drain.on_unhealthy = OnLeaving::Drain);
    f.say(0, &passing(&[1, 2, 3]));
    (1..=3).for_each(|port| f.probe(port, true));
    f.say(0, &[(1, Reported::Critical), (2, Reported::Passing), (3, Reported::Passing)]);
    let cut = f.entry(1).cut;
    assert!(matches!(cut, Cut::At(_)));
    f.wait(Duration::from_secs(5));
    (0..3).for_each(|_| f.probe(1, false));
    assert_eq!((f.entry(1).probe, f.entry(1).cut), (Verdict::Unhealthy, cut));
}

#[test]
fn the_unknown_are_used_though_somebody_is_critical() {
    let mut f = Fixture::with(true, |settings| settings.panic_threshold = 0);
    f.say(0, &[(1, Reported::Critical), (2, Reported::Passing)]);
    assert_eq!(f.candidates(), [0u16; 0]);
    f.wait(START_TIMEOUT);
    assert_eq!((f.candidates(), f.cluster.snapshot().candidates.panic), (vec![2], false));
}

#[test]
fn maintenance_drains_until_it_is_over() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2]));
    f.say(0, &[(1, Reported::Maintenance), (2, Reported::Passing)]);
    assert_eq!((f.candidates(), f.state(1)), (vec![2], State::Draining));
    f.say(0, &passing(&[1, 2]));
    assert_eq!((f.candidates(), f.state(1)), (vec![1, 2], State::Ready));
}

#[test]
fn orders_for_the_fleet_hold_as_long_as_they_are_there() {
    let mut f = Fixture::new(false);
    f.say(0, &passing(&[1, 2]));
    let weight = |weight| FleetOrder { weight: Some(weight), drain: None };
    let drain = FleetOrder { weight: None, drain: Some(FleetDrain { timeout: None }) };
    f.orders(&[("10.0.0.1:1", weight(5)), ("10.0.0.1:2", drain), ("10.0.0.1:3", weight(7))]);
    assert_eq!((f.candidates(), f.state(2)), (vec![1], State::Draining));
    let assigned = |f: &Fixture, port| {
        let snapshot = f.cluster.snapshot();
        let entry =
            snapshot.entries.iter().find(|e| fixture::port(&e.backend.endpoint.address) == port);
        entry.unwrap().assigned / 256
    };
    assert_eq!(assigned(&f, 1), 5);
    // One to this sidecar comes first.
    f.order_for(1, What::Weight { weight: 9 }, Some(Duration::from_secs(10)));
    assert_eq!(assigned(&f, 1), 9);
    f.wait(Duration::from_secs(10));
    assert_eq!(assigned(&f, 1), 5);
    // Who joins later finds its order.
    f.say(0, &passing(&[1, 2, 3]));
    assert_eq!(assigned(&f, 3), 7);
    f.orders(&[]);
    assert_eq!((f.candidates(), assigned(&f, 1), assigned(&f, 3)), (vec![1, 2, 3], 1, 1));
}

#[test]
fn another_source_takes_over_without_holding_anybody() {
    let mut f = Fixture::with(false, several_sources);
    f.say(1, &passing(&[4, 5, 6]));
    assert_eq!(f.candidates(), [0u16; 0]);
    f.source_fails(0);
    assert_eq!(f.candidates(), [4, 5, 6]);
    f.say(0, &passing(&[1]));
    assert_eq!(f.candidates(), [1]);
    // It keeps its answer when it fails, and loses it when it is empty for long.
    f.source_fails(0);
    f.wait(HOLD * 10);
    assert_eq!(f.candidates(), [1]);
    f.say(0, &[]);
    assert_eq!(f.candidates(), [1]);
    f.wait(HOLD);
    assert_eq!(f.candidates(), [4, 5, 6]);
}

#[test]
fn what_is_remembered_serves_and_is_marked_stale() {
    let mut f = Fixture::new(false);
    let day = Duration::from_secs(24 * 3600);
    let saved_at = SystemTime::now() - day;
    f.task.remember(0, saved_at, vec![fixture::endpoint(1, 1, 0)], day * 3);
    f.source_fails(0);
    assert_eq!(f.candidates(), [1]);
    assert_eq!(f.cluster.snapshot().stale_since, Some(saved_at));
    assert!(f.cluster.snapshot().from_memory);
    f.wait(day * 2 + Duration::from_secs(1));
    assert_eq!(f.candidates(), [0u16; 0]);
    assert!(f.cluster.snapshot().source.is_none());
    // Too old from the start.
    let mut f = Fixture::new(false);
    f.task.remember(0, saved_at, vec![fixture::endpoint(1, 1, 0)], day / 2);
    f.source_fails(0);
    assert_eq!(f.candidates(), [0u16; 0]);
}

/// The clock was ahead when it was saved: it has been stale at least since it is known.
#[test]
fn what_is_remembered_from_the_future_is_stale_from_now_on() {
    let mut f = Fixture::new(false);
    let day = Duration::from_secs(24 * 3600);
    let before = SystemTime::now();
    f.task.remember(0, before + day, vec![fixture::endpoint(1, 1, 0)], day * 3);
    f.source_fails(0);
    assert_eq!(f.candidates(), [1]);
    let stale_since = f.cluster.snapshot().stale_since.unwrap();
    assert!((before..=SystemTime::now()).contains(&stale_since), "{stale_since:?}");
}
