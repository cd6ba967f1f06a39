//! `ListEvents`: what has happened to clusters and backends, and why.

use std::time::Duration;

use outrigger_proto::v1;
use tonic::Status;

use super::{Control, clusters, error};
use crate::cluster::Happened;

/// No answer waits longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) async fn list(
    control: &Control,
    request: v1::ListEventsRequest,
) -> Result<v1::ListEventsResponse, Status> {
    let cluster = match &*request.cluster {
        "" => None,
        name => Some(clusters::cluster(control, name)?.name()),
    };
    let wait = match request.wait {
        None => Duration::ZERO,
        Some(wait) => Duration::try_from(wait)
            .map_err(|_| error::invalid("wait", format!("got {wait}; accepted: 0 s to 60 s")))?,
    };
    let enough = tokio::time::sleep(wait.min(LONGEST_WAIT));
    let (events, latest) = control.history.news(request.after, cluster, enough).await;
    Ok(v1::ListEventsResponse { events: events.into_iter().map(event).collect(), latest })
}

fn event(happened: Happened) -> v1::Event {
    v1::Event {
        id: happened.number,
        at: Some(happened.at.into()),
        cluster: happened.cluster.to_string(),
        backend: happened.backend.map(|backend| backend.to_string()).unwrap_or_default(),
        kind: happened.kind.name().into(),
        cause: happened.cause,
    }
}
