//! Where endpoints come from: one source a file or folder, all saying the same kind of thing.
//!
//! A source reports whole sets to its cluster's task. An answer that says "nobody" empties the
//! cluster; a failure to answer never does.

pub mod dns;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::cluster::{Cluster, Endpoint, Event, WEIGHT_ONE};
use crate::config::{Source, StaticEndpoint};
use crate::net::backoff::Backoff;
use dns::{DnsSource, Resolver, Ttls};

/// How soon a source that failed is asked again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Keeps a cluster up to date for as long as the sidecar runs.
pub async fn run(cluster: Arc<Cluster>, resolver: Arc<Resolver>, ttls: Ttls) {
    match &cluster.settings.source {
        // All there is to know was known from the start.
        Source::Static(_) => {}
        Source::Dns { name, port } => {
            refresh(&cluster, DnsSource::addresses(resolver, ttls, name, *port), ttls).await;
        }
        Source::DnsSrv { name } => {
            refresh(&cluster, DnsSource::srv(resolver, ttls, name), ttls).await;
        }
    }
}

/// The endpoints of a source that has them in the configuration itself.
pub fn known(source: &Source) -> Option<Vec<Endpoint>> {
    match source {
        Source::Static(endpoints) => Some(endpoints.iter().map(from_static).collect()),
        Source::Dns { .. } | Source::DnsSrv { .. } => None,
    }
}

/// Asks once, for `outrigger check --live`.
pub async fn once(
    source: &Source,
    resolver: Arc<Resolver>,
    ttls: Ttls,
) -> Result<Vec<Endpoint>, String> {
    let mut dns = match source {
        Source::Static(endpoints) => return Ok(endpoints.iter().map(from_static).collect()),
        Source::Dns { name, port } => DnsSource::addresses(resolver, ttls, name, *port),
        Source::DnsSrv { name } => DnsSource::srv(resolver, ttls, name),
    };
    dns.lookup(Instant::now()).await.map(|answer| answer.endpoints).map_err(|e| e.to_string())
}

fn from_static(endpoint: &StaticEndpoint) -> Endpoint {
    Endpoint {
        address: endpoint.address.clone(),
        target: None,
        weight: u32::from(endpoint.weight) * WEIGHT_ONE,
        priority: endpoint.priority,
    }
}

/// Asks again whenever an answer expires, and after failures with growing patience.
async fn refresh(cluster: &Cluster, mut source: DnsSource, ttls: Ttls) {
    let events = cluster.events();
    let mut rng = fastrand::Rng::new();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    loop {
        let asked = Instant::now();
        let answer = source.lookup(asked).await;
        let at = SystemTime::now();
        let (event, wait) = match answer {
            Ok(answer) => {
                backoff.succeeded();
                let endpoints = answer.endpoints;
                (Event::Discovered { at, endpoints }, ttls.wait(answer.ttl, &mut rng))
            }
            Err(error) => {
                let error = error.to_string();
                (Event::DiscoveryFailed { at, error }, backoff.failed(&mut rng))
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
        // From when it was asked: a slow answer does not make the next one late.
        tokio::time::sleep_until((asked + wait).max(Instant::now() + ttls.floor() / 2)).await;
    }
}
