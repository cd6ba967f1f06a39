//! Clusters and their backends, as the messages of the control API have them.

use std::sync::Arc;
use std::time::SystemTime;

use outrigger_proto::v1;
use prost_types::Timestamp;
use tokio::time::Instant;
use tonic::Status;

use super::{Control, error};
use crate::cluster::affinity::Pin;
use crate::cluster::{Clock, Cluster, Ordering, ShownOrder, Snapshot, State, weight};

/// The cluster of this name.
pub(super) fn cluster<'c>(control: &'c Control, name: &str) -> Result<&'c Arc<Cluster>, Status> {
    let found = control.clusters.iter().find(|cluster| cluster.name() == name);
    found.ok_or_else(|| error::not_found("cluster", name))
}

pub(super) fn list(
    control: &Control,
    request: &v1::ListClustersRequest,
) -> Result<v1::ListClustersResponse, Status> {
    let clusters = match &*request.cluster {
        "" => control.clusters.iter().map(|cluster| whole(cluster)).collect(),
        name => vec![whole(cluster(control, name)?)],
    };
    Ok(v1::ListClustersResponse { clusters })
}

fn whole(cluster: &Cluster) -> v1::Cluster {
    let (snapshot, clock) = (cluster.snapshot(), Clock::now());
    let places = 0..snapshot.entries.len();
    let backend = |place| measured(cluster, &snapshot, place, &clock);
    v1::Cluster {
        name: cluster.name().into(),
        policy: cluster.settings.policy.name().into(),
        version: snapshot.version,
        panic: snapshot.candidates.panic,
        stale_since: snapshot.stale_since.map(Timestamp::from),
        backends: places.map(backend).collect(),
        pins: count(cluster.pins.len()),
    }
}

/// The backend at this place of a snapshot, as it is now.
pub(super) fn backend(cluster: &Cluster, snapshot: &Snapshot, place: usize) -> v1::Backend {
    measured(cluster, snapshot, place, &Clock::now())
}

fn measured(cluster: &Cluster, snapshot: &Snapshot, place: usize, clock: &Clock) -> v1::Backend {
    let backend = &snapshot.entries[place].backend;
    let ewma = backend.ewma().and_then(|ewma| ewma.try_into().ok());
    v1::Backend {
        in_flight: backend.in_flight(),
        ewma,
        ..unmeasured(cluster, snapshot, place, clock)
    }
}

/// The same without what each request changes.
pub(super) fn unmeasured(
    cluster: &Cluster,
    snapshot: &Snapshot,
    place: usize,
    clock: &Clock,
) -> v1::Backend {
    let entry = &snapshot.entries[place];
    let backend = &entry.backend;
    let (share, _) = snapshot.share(place);
    v1::Backend {
        name: backend.name.to_string(),
        state: state(entry.state()).into(),
        reason: entry.reason(clock),
        priority: backend.endpoint.priority.into(),
        configured_weight: weight(backend.endpoint.weight),
        effective_weight: weight(entry.weight),
        share,
        in_flight: 0,
        ewma: None,
        source: cluster.settings.source_kind(snapshot.source).into(),
        drain_deadline: entry.leaving.map(|leaving| time(leaving.deadline, clock)),
        drained: entry.leaving.is_some_and(|leaving| leaving.done),
        orders: entry.orders().map(|given| order(&given, clock)).collect(),
        pins: cluster.pins.count(backend.id),
    }
}

pub(super) fn state(state: State) -> v1::State {
    match state {
        State::Draining => v1::State::Draining,
        State::Unhealthy => v1::State::Unhealthy,
        State::Ejected => v1::State::Ejected,
        State::Pending => v1::State::Pending,
        State::Ready => v1::State::Ready,
    }
}

fn order(order: &ShownOrder, clock: &Clock) -> v1::Order {
    let kind = match order.what {
        Ordering::Drain => v1::order::Kind::Drain(true),
        Ordering::Weight(weight) => v1::order::Kind::Weight(weight.into()),
        Ordering::Factor(factor) => v1::order::Kind::Factor(factor),
    };
    v1::Order {
        owner: order.owner.to_string(),
        kind: Some(kind),
        expires_at: order.until.map(|until| time(until, clock)),
        leased: order.leased,
    }
}

/// A pin as an order.
pub(super) fn pin(pin: &Pin) -> v1::Order {
    v1::Order {
        owner: pin.owner.name.to_string(),
        kind: Some(v1::order::Kind::Pin(true)),
        expires_at: pin.until.map(|until| time(until, &Clock::now())),
        leased: pin.owner.lease.is_some(),
    }
}

fn time(at: Instant, clock: &Clock) -> Timestamp {
    SystemTime::into(clock.wall(at))
}

fn count(count: usize) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}
