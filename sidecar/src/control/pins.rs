//! Keys and where they lead: pins, and what is known of a key without one.

use std::sync::Arc;

use outrigger_proto::v1::{
    self, ClearAffinityRequest, ClearAffinityResponse, ExplainRequest, ExplainResponse,
    GetAffinityRequest, GetAffinityResponse, SetAffinityRequest, SetAffinityResponse,
};
use tokio::time::Instant;
use tonic::Status;

use super::caller::Caller;
use super::orders::{Lifetime, owner_name, terms};
use super::{Control, clusters, error};
use crate::cluster::affinity::{MAX_KEY, MAX_PINS};
use crate::cluster::{Cluster, Event, Explanation, Owner, Pinning, Reason, Unpinning};

pub(super) async fn set(
    control: &Control,
    caller: &Caller,
    request: SetAffinityRequest,
) -> Result<SetAffinityResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let key = checked(&request.key)?;
    let lifetime = request.lifetime.map(Lifetime::from);
    let (owner, ttl) = terms(control, caller, lifetime, &request.owner)?;
    let backend = match request.backend {
        wanted if wanted.is_empty() => home(cluster, key)?.to_string(),
        wanted => wanted,
    };
    let pin = |reply| Event::Pin(Pinning { key: key.into(), backend, owner, ttl, reply });
    match cluster.ask(pin).await.ok_or_else(error::stopping)? {
        Some(pinned) => {
            let backend = pinned.map_err(|e| error::refused(&e))?.to_string();
            Ok(SetAffinityResponse { backend })
        }
        None => {
            let why = format!("{MAX_PINS} keys are pinned, as many as may be");
            Err(error::full("pins", why))
        }
    }
}

pub(super) fn get(
    control: &Control,
    request: &GetAffinityRequest,
) -> Result<GetAffinityResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let key = checked(&request.key)?;
    let snapshot = cluster.snapshot();
    let name = |place: usize| snapshot.entries[place].backend.name.to_string();
    let found = cluster.whereabouts(&snapshot, key, Instant::now());
    let pin = cluster.pins.get(key);
    let pinned_to = pin.as_ref().and_then(|pin| snapshot.find(pin.backend));
    Ok(GetAffinityResponse {
        backend: found.place.map(name).unwrap_or_default(),
        reason: reason(found.reason).into(),
        pinned_to: pinned_to.map(name).unwrap_or_default(),
        pin: pin.as_ref().map(clusters::pin),
    })
}

pub(super) async fn clear(
    control: &Control,
    caller: &Caller,
    request: ClearAffinityRequest,
) -> Result<ClearAffinityResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let key = checked(&request.key)?.into();
    let owner = Owner::app(owner_name("")?, None, caller.shown());
    let unpin = |reply| Event::Unpin(Unpinning { key, owner, reply });
    let cleared = cluster.ask(unpin).await.ok_or_else(error::stopping)?;
    Ok(ClearAffinityResponse { cleared })
}

pub(super) fn explain(
    control: &Control,
    request: &ExplainRequest,
) -> Result<ExplainResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let key =
        Some(&request.key).filter(|key| !key.is_empty()).map(|key| checked(key)).transpose()?;
    let explained = cluster.explain(key, Instant::now());
    Ok(ExplainResponse {
        picked: explained.picked.map(|name| name.to_string()).unwrap_or_default(),
        reason: reason(explained.reason).into(),
        summary: explained.summary,
        backends: explained.backends.into_iter().map(explanation).collect(),
    })
}

fn explanation(one: Explanation) -> v1::Explanation {
    v1::Explanation {
        backend: one.backend.to_string(),
        state: clusters::state(one.state).into(),
        share: one.share,
        why: one.why,
    }
}

fn checked(key: &str) -> Result<&[u8], Status> {
    match key.len() {
        1..=MAX_KEY => Ok(key.as_bytes()),
        length => {
            let why = format!("got {length} bytes; accepted: 1 to {MAX_KEY}");
            Err(error::invalid("key", why))
        }
    }
}

/// The backend where the key lives, or would be sent to now.
fn home(cluster: &Arc<Cluster>, key: &[u8]) -> Result<Arc<str>, Status> {
    let snapshot = cluster.snapshot();
    let place = cluster.whereabouts(&snapshot, key, Instant::now()).place;
    let home = place.map(|place| Arc::clone(&snapshot.entries[place].backend.name));
    home.or_else(|| cluster.would_pick()).ok_or_else(|| {
        Status::failed_precondition(
            "no backend may be used now, so there is none to pin the key to",
        )
    })
}

fn reason(reason: Reason) -> v1::Reason {
    match reason {
        Reason::Pin => v1::Reason::Pin,
        Reason::Learned => v1::Reason::Learned,
        Reason::Hash => v1::Reason::Hash,
        Reason::Policy => v1::Reason::Policy,
    }
}
