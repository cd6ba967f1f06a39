//! Clusters for tests, from what a user would write.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::affinity::Keyring;
use super::{Answer, Cluster, ClusterTask, Endpoint, Event, WEIGHT_ONE};
use crate::config;
use crate::net::Address;
use crate::telemetry::metrics::Metrics;

/// The meaning of these tables; `[clusters.api]` has a source already.
pub(crate) fn settings(tables: &str) -> config::Cluster {
    let text = format!(
        "[listeners.web]\nlisten = \"127.0.0.1:8080\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"dns_srv\"\nname = \"_api._tcp.test\"\n{tables}"
    );
    let loaded = config::load_text(Path::new("test.toml"), &text).unwrap();
    config::Cluster::clone(&loaded.config.clusters[0])
}

/// A cluster that begins now, its task, and what it counts.
pub(crate) fn cluster(
    settings: config::Cluster,
    start_timeout: Duration,
) -> (Arc<Cluster>, ClusterTask, Arc<Metrics>) {
    let keyring = Keyring::parse(b"a secret that no one but tests know").unwrap();
    let metrics = Metrics::new().unwrap();
    let keyring = Some(keyring.into());
    let history = Arc::default();
    let (cluster, task) =
        Cluster::new(settings.into(), start_timeout, &metrics, &history, keyring, None);
    (cluster, task, metrics)
}

/// What discovery says of 10.0.0.1 at this port.
pub(crate) fn endpoint(port: u16, weight: u32, priority: u16) -> Endpoint {
    let address = Address::Tcp(([10, 0, 0, 1], port).into());
    Endpoint { weight: weight * WEIGHT_ONE, priority, ..Endpoint::new(address) }
}

/// An answer of discovery, each endpoint as `(port, weight, priority)`.
pub(crate) fn discovered(endpoints: &[(u16, u32, u16)]) -> Event {
    let endpoint = |&(port, weight, priority): &_| endpoint(port, weight, priority);
    let endpoints = endpoints.iter().map(endpoint).collect();
    Event::Discovered(Answer::new(0, SystemTime::UNIX_EPOCH, endpoints))
}

/// The port of an address that `endpoint` has made.
pub(crate) fn port(address: &Address) -> u16 {
    match address {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => 0,
    }
}
