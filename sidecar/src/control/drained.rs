//! `WaitDrained`: the answer comes when a backend that drains has no work left.

use std::sync::Arc;

use outrigger_proto::v1;
use tonic::Status;

use super::{Control, clusters, error};

pub(super) async fn wait(
    control: &Control,
    request: &v1::WaitDrainedRequest,
) -> Result<v1::WaitDrainedResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let mut versions = cluster.version();
    let snapshot = cluster.snapshot();
    let entry = snapshot.named(&request.backend).map_err(|wrong| error::refused(&wrong))?;
    // It keeps count even when it has left.
    let backend = Arc::clone(&entry.backend);
    drop(snapshot);
    loop {
        let snapshot = cluster.snapshot();
        let entry = snapshot.find(backend.id).map(|place| &snapshot.entries[place]);
        // What discovery has dropped leaves when it is done.
        let done = entry.is_none_or(|entry| entry.leaving.is_some_and(|leaving| leaving.done));
        let resumed = entry.is_some_and(|entry| entry.leaving.is_none());
        if done || resumed {
            return Ok(v1::WaitDrainedResponse { forced: backend.forced(), resumed });
        }
        versions.changed().await.map_err(|_| error::stopping())?;
    }
}
