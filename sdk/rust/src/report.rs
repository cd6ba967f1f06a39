//! What the app itself has seen of backends.

use std::time::Duration;

pub use outrigger_proto::v1::Outcome;
use outrigger_proto::v1::ReportOutcomeRequest;

use crate::Client;
use crate::client::proto_duration;
use crate::error::Error;

impl Client {
    /// Tells how `count` (1..=1000) requests or connections to a backend have ended, and how long it took
    /// to answer, if that is known. It counts in outlier detection, in the average of latencies and in
    /// metrics, like what the sidecar sees itself: for protocols that it cannot read.
    ///
    /// It is not repeated, since it might count twice.
    pub async fn report(
        &self,
        cluster: &str,
        backend: &str,
        outcome: Outcome,
        latency: Option<Duration>,
        count: u32,
    ) -> Result<(), Error> {
        let request = ReportOutcomeRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            outcome: outcome.into(),
            latency: latency.map(|latency| proto_duration("latency", latency)).transpose()?,
            count,
        };
        let answer = self
            .ask_once(request, |mut api, request| async move { api.report_outcome(request).await });
        answer.await.map(drop)
    }
}
