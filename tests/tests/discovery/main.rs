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

use outrigger_tests::backend::Backend;

const HTTP_CHECK: &str =
    "[clusters.api.health]\nprobe = \"http\"\ninterval = \"1s\"\ntimeout = \"500ms\"\n";

async fn backends<const N: usize>() -> [Backend; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::start().await);
    }
    all.try_into().unwrap()
}
