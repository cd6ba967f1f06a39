//! What the sidecar answers to questions: where a key leads, what has happened, who would be picked.

use std::time::SystemTime;

pub use outrigger_proto::v1::Reason;
use outrigger_proto::v1::{self, State};

use crate::backend::{Order, time};

/// Where a key would go now, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Affinity {
    /// `None`: nobody may be used, or the policy will decide.
    pub backend: Option<String>,
    /// What leads the key there.
    pub reason: Reason,
    /// The backend that it is pinned to, even if that may not be used now.
    pub pinned_to: Option<String>,
    /// The pin as an order.
    pub pin: Option<Order>,
}

/// How a wait for a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// How much of the backend's work was ended by force.
    pub forced: u32,
    /// Whether the wait ended because the backend no longer drains: something of its work may be left.
    pub resumed: bool,
}

/// Events, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The oldest first.
    pub events: Vec<Event>,
    /// The id of the latest event there is, of whatever cluster: what to ask for next time.
    pub latest: u64,
}

/// Something that has happened to a cluster or a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts up by one with every event of the sidecar, from 1.
    pub id: u64,
    pub at: Option<SystemTime>,
    pub cluster: String,
    /// `None`: it concerns the cluster as a whole.
    pub backend: Option<String>,
    /// `joined`, `removed`, `healthy`, `ejected`, `draining`, `weight`, `pinned`, …
    pub kind: String,
    pub cause: String,
}

/// Who would be picked now, and why every other backend would not.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// `None`: nobody. Without affinity one of those with a share.
    pub picked: Option<String>,
    pub reason: Reason,
    /// The same in words.
    pub summary: String,
    pub backends: Vec<Explained>,
}

/// Why one backend would be taken or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    pub backend: String,
    pub state: State,
    /// Its share of picks by the policy, 0..=1.
    pub share: f64,
    /// Why it has that share.
    pub why: String,
}

impl From<v1::GetAffinityResponse> for Affinity {
    fn from(answer: v1::GetAffinityResponse) -> Self {
        Self {
            reason: answer.reason(),
            backend: named(answer.backend),
            pinned_to: named(answer.pinned_to),
            pin: answer.pin.map(Order::from),
        }
    }
}

impl From<v1::WaitDrainedResponse> for Drained {
    fn from(answer: v1::WaitDrainedResponse) -> Self {
        Self { forced: answer.forced, resumed: answer.resumed }
    }
}

impl From<v1::ListEventsResponse> for Events {
    fn from(answer: v1::ListEventsResponse) -> Self {
        let events = answer.events.into_iter().map(Event::from).collect();
        Self { events, latest: answer.latest }
    }
}

impl From<v1::Event> for Event {
    fn from(event: v1::Event) -> Self {
        Self {
            id: event.id,
            at: event.at.and_then(time),
            cluster: event.cluster,
            backend: named(event.backend),
            kind: event.kind,
            cause: event.cause,
        }
    }
}

impl From<v1::ExplainResponse> for Explanation {
    fn from(answer: v1::ExplainResponse) -> Self {
        Self {
            reason: answer.reason(),
            picked: named(answer.picked),
            summary: answer.summary,
            backends: answer.backends.into_iter().map(Explained::from).collect(),
        }
    }
}

impl From<v1::Explanation> for Explained {
    fn from(one: v1::Explanation) -> Self {
        Self { state: one.state(), backend: one.backend, share: one.share, why: one.why }
    }
}

/// Names are empty where there is nobody.
fn named(name: String) -> Option<String> {
    (!name.is_empty()).then_some(name)
}
