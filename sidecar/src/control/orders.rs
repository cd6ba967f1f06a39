//! What apps order of backends: weights and drains. The answer comes once picks follow.

use std::sync::Arc;
use std::time::Duration;

use outrigger_proto::v1::{
    self, ClearWeightRequest, ClearWeightResponse, DrainRequest, DrainResponse, ResumeRequest,
    ResumeResponse, SetWeightRequest, SetWeightResponse, drain_request, set_affinity_request,
    set_weight_request,
};
use tonic::Status;

use super::caller::{Caller, Role};
use super::{Control, clusters, error};
use crate::cluster::{Cluster, Event, Order, Owner, What};

/// What an owner is called that does not say so.
const UNNAMED: &str = "sdk";
/// Owners that are not apps.
const TAKEN: [&str; 2] = ["admin", "fleet"];
const MAX_NAME: usize = 64;
const MAX_FACTOR: f64 = 1000.0;
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn set_weight(
    control: &Control,
    caller: &Caller,
    request: SetWeightRequest,
) -> Result<SetWeightResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let what = match request.change {
        Some(set_weight_request::Change::Weight(weight)) => {
            What::Weight { weight: u16_of(weight)? }
        }
        Some(set_weight_request::Change::Factor(factor)) => {
            What::Factor { factor: in_256ths(factor)? }
        }
        None => {
            return Err(error::invalid(
                "weight",
                "it is missing; accepted: weight or factor".into(),
            ));
        }
    };
    let lifetime = request.lifetime.map(Lifetime::from);
    let (owner, ttl) = terms(control, caller, lifetime, &request.owner)?;
    let backend = carry_out(cluster, request.backend, what, owner, ttl).await?;
    Ok(SetWeightResponse { backend: Some(backend) })
}

pub(super) async fn clear_weight(
    control: &Control,
    caller: &Caller,
    request: ClearWeightRequest,
) -> Result<ClearWeightResponse, Status> {
    let owner = taker(control, caller, &request.lease_id, &request.owner, request.all)?;
    let cluster = clusters::cluster(control, &request.cluster)?;
    let what = What::ResetWeight { all: request.all };
    let backend = carry_out(cluster, request.backend, what, owner, None).await?;
    Ok(ClearWeightResponse { backend: Some(backend) })
}

pub(super) async fn drain(
    control: &Control,
    caller: &Caller,
    request: DrainRequest,
) -> Result<DrainResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let timeout = request.timeout.map(|it| length("timeout", it, Duration::ZERO)).transpose()?;
    let lifetime = request.lifetime.map(Lifetime::from);
    let (owner, ttl) = terms(control, caller, lifetime, &request.owner)?;
    let what = What::Drain { timeout };
    let backend = carry_out(cluster, request.backend, what, owner, ttl).await?;
    Ok(DrainResponse { backend: Some(backend) })
}

pub(super) async fn resume(
    control: &Control,
    caller: &Caller,
    request: ResumeRequest,
) -> Result<ResumeResponse, Status> {
    let owner = taker(control, caller, &request.lease_id, &request.owner, request.all)?;
    let cluster = clusters::cluster(control, &request.cluster)?;
    let what = What::Resume { all: request.all };
    let backend = carry_out(cluster, request.backend, what, owner, None).await?;
    Ok(ResumeResponse { backend: Some(backend) })
}

/// How long an order holds.
pub(super) enum Lifetime {
    Ttl(prost_types::Duration),
    Lease(String),
}

/// The `oneof` of each request has a type of its own.
macro_rules! lifetime_from {
    ($($request:ident),+) => {$(
        impl From<$request::Lifetime> for Lifetime {
            fn from(lifetime: $request::Lifetime) -> Self {
                match lifetime {
                    $request::Lifetime::Ttl(ttl) => Self::Ttl(ttl),
                    $request::Lifetime::LeaseId(id) => Self::Lease(id),
                }
            }
        }
    )+};
}
lifetime_from!(set_weight_request, set_affinity_request, drain_request);

/// Whose order it is, and how long it holds.
pub(super) fn terms(
    control: &Control,
    caller: &Caller,
    lifetime: Option<Lifetime>,
    owner: &str,
) -> Result<(Owner, Option<Duration>), Status> {
    match lifetime {
        Some(Lifetime::Ttl(ttl)) => {
            let ttl = length("ttl", ttl, SHORTEST)?;
            Ok((Owner::app(owner_name(owner)?, None, caller.shown()), Some(ttl)))
        }
        Some(Lifetime::Lease(id)) => Ok((control.leases.owner(&id)?, None)),
        None => Err(error::invalid("ttl", "it is missing; accepted: ttl or lease_id".into())),
    }
}

/// Whose orders are taken back.
fn taker(
    control: &Control,
    caller: &Caller,
    lease: &str,
    owner: &str,
    all: bool,
) -> Result<Owner, Status> {
    if all {
        caller.needs(Role::Admin)?;
    }
    match lease {
        "" => Ok(Owner::app(owner_name(owner)?, None, caller.shown())),
        lease => control.leases.owner(lease),
    }
}

/// What an app calls itself.
pub(super) fn owner_name(name: &str) -> Result<Arc<str>, Status> {
    let accepted = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !TAKEN.contains(&name);
    match name {
        "" => Ok(UNNAMED.into()),
        name if accepted => Ok(name.into()),
        name => Err(error::invalid(
            "owner",
            format!(
                "got {name:?}; accepted: up to {MAX_NAME} printable ASCII characters without spaces, but for {}",
                TAKEN.join(" and ")
            ),
        )),
    }
}

/// From `shortest` to 24 h.
fn length(
    field: &str,
    length: prost_types::Duration,
    shortest: Duration,
) -> Result<Duration, Status> {
    let accepted = Duration::try_from(length).ok();
    accepted.filter(|it| (shortest..=LONGEST).contains(it)).ok_or_else(|| {
        let seconds = length.seconds as f64 + f64::from(length.nanos) / 1e9;
        let least = shortest.as_secs_f64();
        error::invalid(
            field,
            format!("got {seconds} s; accepted: {least} to {} s", LONGEST.as_secs()),
        )
    })
}

fn u16_of(weight: u32) -> Result<u16, Status> {
    let wrong = |_| error::invalid("weight", format!("got {weight}; accepted: 0 to 65535"));
    u16::try_from(weight).map_err(wrong)
}

fn in_256ths(factor: f64) -> Result<u32, Status> {
    if !(0.0..=MAX_FACTOR).contains(&factor) {
        let why = format!("got {factor}; accepted: 0 to {MAX_FACTOR}");
        return Err(error::invalid("factor", why));
    }
    let rounded = (factor * 256.0).round() as u32;
    // Little is not nothing.
    Ok(rounded.max(u32::from(factor > 0.0)))
}

/// Has the cluster's task carry it out; the backend as it is then.
async fn carry_out(
    cluster: &Arc<Cluster>,
    backend: String,
    what: What,
    owner: Owner,
    ttl: Option<Duration>,
) -> Result<v1::Backend, Status> {
    let (order, outcome) = Order::new(backend, what);
    let order = Event::Order(order.by(owner).lasting(ttl));
    cluster.events().send(order).await.map_err(|_| error::stopping())?;
    let carried = outcome.await.map_err(|_| error::stopping())?.map_err(|e| error::refused(&e))?;
    let snapshot = cluster.snapshot();
    let entry = snapshot.named(&carried.backend).map_err(|e| error::refused(&e))?;
    let gone = || error::not_found("backend", &carried.backend);
    let place = snapshot.find(entry.backend.id).ok_or_else(gone)?;
    Ok(clusters::backend(cluster, &snapshot, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names_that_can_be_shown() {
        assert_eq!(&*owner_name("").unwrap(), "sdk");
        assert_eq!(&*owner_name("checkout-7").unwrap(), "checkout-7");
        assert!(owner_name(&"x".repeat(64)).is_ok());
        for wrong in ["admin", "fleet", "a b", "a\n", "ä", &"x".repeat(65)] {
            assert_eq!(owner_name(wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn factors_are_steps_of_a_256th_and_never_round_to_nothing() {
        let of = |factor| in_256ths(factor).ok();
        assert_eq!((of(0.0), of(0.5), of(1000.0)), (Some(0), Some(128), Some(256_000)));
        assert_eq!((of(0.000_1), of(-0.1), of(1000.1), of(f64::NAN)), (Some(1), None, None, None));
    }

    #[test]
    fn lengths_are_within_a_day() {
        let of =
            |seconds, nanos| length("ttl", prost_types::Duration { seconds, nanos }, SHORTEST).ok();
        assert_eq!(of(0, 1_000_000), Some(SHORTEST));
        assert_eq!(of(86_400, 0), Some(LONGEST));
        for (seconds, nanos) in [(0, 999_999), (86_400, 1), (-1, 0), (i64::MAX, 0)] {
            assert_eq!(of(seconds, nanos), None, "{seconds} s {nanos} ns");
        }
    }
}
