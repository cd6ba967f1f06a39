//! What apps have seen of backends themselves.

use std::time::Duration;

use outrigger_proto::v1::{self, ReportOutcomeRequest, ReportOutcomeResponse};
use tokio::time::Instant;
use tonic::Status;

use super::{Control, clusters, error};
use crate::telemetry::metrics::Outcome;

/// Outcomes in one report.
const MAX_COUNT: u32 = 1000;
/// No answer takes longer.
const MAX_LATENCY: Duration = Duration::from_secs(3600);

pub(super) fn report(
    control: &Control,
    request: &ReportOutcomeRequest,
) -> Result<ReportOutcomeResponse, Status> {
    let cluster = clusters::cluster(control, &request.cluster)?;
    let outcome = outcome(request.outcome())?;
    let took = request.latency.map(latency).transpose()?;
    let count = match request.count {
        0 => 1,
        count @ 1..=MAX_COUNT => count,
        count => {
            let why = format!("got {count}; accepted: 0 to {MAX_COUNT}");
            return Err(error::invalid("count", why));
        }
    };
    let snapshot = cluster.snapshot();
    let entry = snapshot.named(&request.backend).map_err(|e| error::refused(&e))?;
    entry.backend.report(outcome, took, count, Instant::now());
    Ok(ReportOutcomeResponse {})
}

fn outcome(said: v1::Outcome) -> Result<Outcome, Status> {
    Ok(match said {
        v1::Outcome::Unspecified => {
            let why = "it is missing or unknown; accepted: those of the enumeration Outcome";
            return Err(error::invalid("outcome", why.into()));
        }
        v1::Outcome::Success => Outcome::Success,
        v1::Outcome::ConnectFailed => Outcome::ConnectFailed,
        v1::Outcome::Reset => Outcome::Reset,
        v1::Outcome::Timeout => Outcome::Timeout,
        v1::Outcome::Http5xx => Outcome::Http5xx,
        v1::Outcome::GrpcError => Outcome::GrpcError,
        v1::Outcome::Cancelled => Outcome::Cancelled,
    })
}

fn latency(latency: prost_types::Duration) -> Result<Duration, Status> {
    let accepted = Duration::try_from(latency).ok();
    accepted.filter(|it| *it <= MAX_LATENCY).ok_or_else(|| {
        let seconds = latency.seconds;
        let most = MAX_LATENCY.as_secs();
        error::invalid("latency", format!("got {seconds} s; accepted: 0 to {most} s"))
    })
}
