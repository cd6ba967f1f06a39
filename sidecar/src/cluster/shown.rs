//! What people and apps are told of a backend, over whichever API they ask.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::endpoint::WEIGHT_ONE;
use super::ordered::{Given, Override};
use super::snapshot::{Entry, State};

/// The wall clock is set to another time if it differs by more than this; less is how a clock runs.
const SET: Duration = Duration::from_secs(1);

/// Tells what time of the wall clock an instant is: of the same instant always the same.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    at: Instant,
    wall: SystemTime,
}

impl Clock {
    pub fn now() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }

    pub fn wall(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.at) {
            Some(ahead) => self.wall + ahead,
            None => self.wall - self.at.duration_since(at),
        }
    }

    /// The same clock, unless the wall clock has been set since.
    pub fn checked(self) -> Self {
        let now = Self::now();
        let expected = self.wall(now.at);
        let difference = now.wall.duration_since(expected).unwrap_or_else(|e| e.duration());
        if difference > SET { now } else { self }
    }

    fn rfc3339(&self, at: Instant) -> String {
        rfc3339(self.wall(at))
    }
}

pub fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// A weight as people write it.
pub fn weight(in_256ths: u32) -> f64 {
    f64::from(in_256ths) / f64::from(WEIGHT_ONE)
}

/// An order that acts on a backend.
#[derive(Debug, Clone)]
pub struct ShownOrder {
    /// `admin` for operators, `fleet` for an order to all sidecars, else what an app calls itself.
    pub owner: Arc<str>,
    pub what: Ordering,
    /// When it ends by itself.
    pub until: Option<Instant>,
    /// Whether it ends with a lease.
    pub leased: bool,
}

/// What an order is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ordering {
    Drain,
    Weight(u16),
    /// What the weight is multiplied by.
    Factor(f64),
}

impl Entry {
    /// Why it is not ready, or not for long; empty if it is.
    pub fn reason(&self, clock: &Clock) -> String {
        match (self.state(), self.ejection) {
            (State::Ready, _) => match self.suspect_until {
                Some(until) => format!("dropped by discovery, until {}", clock.rfc3339(until)),
                None => String::new(),
            },
            (State::Pending, _) => "not probed yet".into(),
            (State::Unhealthy, _) if self.is_critical() => "critical, as its source says".into(),
            (State::Unhealthy, _) => {
                let last_probe = self.backend.last_probe();
                last_probe.and_then(|report| report.result.clone().err()).unwrap_or_default()
            }
            (State::Ejected, Some(ejection)) => {
                format!("{} until {}", ejection.reason.name(), clock.rfc3339(ejection.until))
            }
            (State::Ejected, None) => "stalled: it takes work and answers none".into(),
            (State::Draining, _) => match self.leaving {
                Some(leaving) if leaving.done => "drained".into(),
                Some(leaving) => {
                    let until = clock.rfc3339(leaving.deadline);
                    format!("{}, until {until}", leaving.cause.describe())
                }
                None => String::new(),
            },
        }
    }

    /// The orders that act on it, but for pins.
    pub fn orders(&self) -> impl Iterator<Item = ShownOrder> {
        let of_fleet =
            |what| ShownOrder { owner: "fleet".into(), what, until: None, leased: false };
        let drains = self.leaving.is_some_and(|leaving| leaving.fleet).then_some(Ordering::Drain);
        let weight = self.ordered.fleet.map(Ordering::Weight);
        let fleet = [drains, weight].into_iter().flatten().map(of_fleet);
        self.ordered.own().iter().map(ShownOrder::of).chain(fleet)
    }
}

impl ShownOrder {
    fn of(given: &Given) -> Self {
        let what = match given.what {
            Override::Weight(weight) => Ordering::Weight(weight),
            Override::Factor(factor) => Ordering::Factor(weight(factor)),
            Override::Drain(_) => Ordering::Drain,
        };
        let (owner, leased) = (Arc::clone(&given.owner.name), given.owner.lease.is_some());
        Self { owner, what, until: given.until, leased }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_has_one_time_until_the_wall_clock_is_set() {
        let clock = Clock::now();
        let at = clock.at + Duration::from_secs(5);
        assert_eq!(clock.checked().wall(at), clock.wall(at));
        let early = clock.at.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(clock.wall(early), clock.wall - Duration::from_millis(1));
        let slow = Clock { wall: clock.wall - Duration::from_secs(3600), ..clock };
        let checked = slow.checked().wall(at);
        let apart = checked.duration_since(clock.wall(at)).unwrap_or_else(|e| e.duration());
        assert!(apart < Duration::from_secs(60), "{apart:?}");
    }
}
