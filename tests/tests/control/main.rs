//! The control API: what callers are told, and who is refused what.

mod access;
mod crowd;
mod health;
mod limits;
mod questions;
mod reflection;
mod steering;
mod tls;
mod watching;

use std::collections::BTreeMap;

use outrigger_proto::v1;
use outrigger_tests::secs;
use tonic::Streaming;

/// A cluster `api` of so many backends that nobody is at, 10.0.0.1 with ports from 1 on, none of which
/// is asked how it is.
fn config(backends: usize) -> String {
    let endpoint = |port| format!("{{ address = \"10.0.0.1:{port}\" }}");
    let endpoints: Vec<_> = (1..=backends).map(endpoint).collect();
    format!(
        "[clusters.api.discovery]\nsource = \"static\"\nendpoints = [{}]\n",
        endpoints.join(", ")
    )
}

/// What a watcher knows, by doing what the protocol says.
#[derive(Default)]
struct Known {
    instance: String,
    version: u64,
    backends: BTreeMap<String, v1::Backend>,
    /// Messages, and full sets that have begun.
    messages: usize,
    full: usize,
}

impl Known {
    /// Takes messages until the set is whole.
    async fn take(&mut self, told: &mut Streaming<v1::WatchClusterResponse>) {
        loop {
            let message = tokio::time::timeout(secs(10), told.message()).await;
            let message = message.expect("there is more").unwrap().expect("it goes on");
            self.messages += 1;
            if message.full {
                self.full += 1;
                self.backends.clear();
            }
            for name in message.removed {
                self.backends.remove(&name);
            }
            let changed =
                message.changed.into_iter().map(|backend| (backend.name.clone(), backend));
            self.backends.extend(changed);
            if !message.more {
                (self.instance, self.version) = (message.instance, message.version);
                return;
            }
        }
    }

    /// Takes messages until the set is as wanted.
    async fn until(
        &mut self,
        told: &mut Streaming<v1::WatchClusterResponse>,
        wanted: impl Fn(&BTreeMap<String, v1::Backend>) -> bool,
    ) {
        while !wanted(&self.backends) {
            self.take(told).await;
        }
    }
}
