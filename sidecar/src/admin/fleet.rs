//! Orders for the whole fleet, given here.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::oneshot;

use super::Admin;
use super::orders::{Refused, invalid, no_such_backend};
use crate::cluster::{Cluster, Entry, FleetChange, FleetDrain, FleetWrite, What};

/// How long this sidecar may take to obey what it has written itself.
const OBEYED_WITHIN: Duration = Duration::from_secs(2);

/// Writes the order where all sidecars find it, and waits until this one obeys. The value is the name
/// of the backend.
pub(super) async fn carry_out(
    admin: &Admin,
    cluster: &Arc<Cluster>,
    backend: &str,
    what: What,
    ttl: Option<Duration>,
) -> Result<Arc<str>, Refused> {
    let Some(fleet) = &admin.fleet else {
        let message = "there is nowhere to write orders for the fleet: \
                       the configuration has no [consul], or an empty consul.kv_prefix";
        return Err(Refused(StatusCode::CONFLICT, "no_fleet", message.into()));
    };
    let snapshot = cluster.snapshot();
    let entry = snapshot.named(backend).map_err(|e| no_such_backend(cluster, &e))?;
    let name = Arc::clone(&entry.backend.name);
    let change = match what {
        What::Drain { timeout } => FleetChange::Drain(FleetDrain { timeout }),
        _ if ttl.is_some() => return Err(invalid("ttl: an order for the fleet has none".into())),
        What::Resume { all: false } => FleetChange::Resume,
        What::Weight { weight } => FleetChange::Weight(weight),
        What::ResetWeight { all: false } => FleetChange::ResetWeight,
        What::Factor { .. } | What::Resume { all: true } | What::ResetWeight { all: true } => {
            return Err(invalid("an order for the fleet has one owner, and no factor".into()));
        }
    };
    let (reply, written) = oneshot::channel();
    let (cluster_name, backend) = (cluster.name().to_owned(), name.to_string());
    let write = FleetWrite { cluster: cluster_name, backend, change, reply };
    let failed = |why: String| Refused(StatusCode::BAD_GATEWAY, "not_written", why);
    fleet.send(write).await.map_err(|_| failed("it is stopping".into()))?;
    written.await.map_err(|_| failed("it was not written".into()))?.map_err(failed)?;
    // If it takes longer, the order holds all the same.
    let _ = tokio::time::timeout(OBEYED_WITHIN, obeyed(cluster, &name, change)).await;
    Ok(name)
}

async fn obeyed(cluster: &Cluster, name: &str, change: FleetChange) {
    let mut versions = cluster.version();
    let shows = |entry: &Entry| {
        let drains = entry.leaving.is_some_and(|leaving| leaving.fleet);
        match change {
            FleetChange::Drain(_) => drains,
            FleetChange::Resume => !drains,
            FleetChange::Weight(weight) => entry.ordered.fleet == Some(weight),
            FleetChange::ResetWeight => entry.ordered.fleet.is_none(),
        }
    };
    while !cluster.snapshot().named(name).is_ok_and(shows) {
        if versions.changed().await.is_err() {
            return;
        }
    }
}
