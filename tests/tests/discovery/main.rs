//! DNS as the source of endpoints: real authorities, BIND and Knot, and a server of our own for
//! faults.

mod failing;
mod faulty;
mod filtered;
mod forged;
mod nameservers;
mod records;
mod refresh;
mod removals;
mod rubbish;
mod search;
mod truncated;

use std::time::Duration;

use outrigger_tests::backend::Backend;
use outrigger_tests::eventually;
use outrigger_tests::sidecar::Sidecar;

const HTTP_CHECK: &str =
    "[clusters.api.health]\nprobe = \"http\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n";

async fn backends<const N: usize>() -> [Backend; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::start().await);
    }
    all.try_into().unwrap()
}

/// Waits until the cluster `api` knows that its set may be out of date.
async fn until_stale(sidecar: &Sidecar, patience: Duration) {
    eventually("the failure is seen", patience, || async {
        sidecar.cluster("api").await["stale_since"].is_string().then_some(())
    })
    .await;
}

/// Waits until the failure is over.
async fn until_fresh(sidecar: &Sidecar, patience: Duration) {
    eventually("the answer is fresh again", patience, || async {
        sidecar.cluster("api").await["stale_since"].is_null().then_some(())
    })
    .await;
}
