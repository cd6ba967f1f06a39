//! Active checks: when backends are probed, and what their answers mean.

mod grpc;
mod http;
mod schedule;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use ::http::{Response, StatusCode};
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

/// A backend whose status the test sets.
async fn with_status(status: &Arc<AtomicU16>) -> Backend {
    let status = Arc::clone(status);
    Backend::answering(move |_| {
        let status = StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap();
        async move {
            let mut response = Response::new(full("status"));
            *response.status_mut() = status;
            response
        }
    })
    .await
}

/// A cluster `api` of these backends, with the keys of its health check.
fn checked(addresses: &[SocketAddr], keys: &str) -> String {
    format!("{}\n[clusters.api.health]\n{keys}\n", config(addresses, ""))
}

/// Why a backend is unhealthy; an empty reason when it is ready.
async fn reason(sidecar: &Sidecar, address: SocketAddr) -> String {
    let cluster = sidecar.cluster("api").await;
    let backends = cluster["backends"].as_array().unwrap();
    let backend = backends.iter().find(|b| b["name"] == address.to_string()).unwrap();
    let reason = backend["reason"].as_str().unwrap();
    let expected = if reason.is_empty() { "ready" } else { "unhealthy" };
    assert_eq!(backend["state"], expected, "{backend}");
    reason.to_owned()
}

/// Waits until the latest probe says this of the only backend; an empty text: it passes.
async fn until_probe_says(sidecar: &Sidecar, detail: &str) {
    let result = if detail.is_empty() { "pass" } else { "fail" };
    outrigger_tests::eventually(&format!("a probe says {detail:?}"), secs(5), || async {
        let probe = &sidecar.cluster("api").await["backends"][0]["last_probe"];
        (probe["result"] == result && probe["detail"] == detail).then_some(())
    })
    .await;
}
