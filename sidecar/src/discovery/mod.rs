//! Where endpoints come from: one source a file or folder, all saying the same kind of thing.
//!
//! A source reports whole sets to its cluster's task. An answer that says "nobody" empties the
//! cluster; a failure to answer never does.

mod consul;
mod dns;
mod file;
mod filter;
pub mod store;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cluster::{Answer, Cluster, Endpoint, Event, FleetWrite, WEIGHT_ONE};
use crate::config::{self, Config, Source, StaticEndpoint};
use crate::net::backoff::Backoff;
use crate::net::tls::TlsError;
use consul::Consul;
use dns::{DnsError, DnsSource, Resolver, Ttls};
use filter::{Filter, Refusals};

/// How soon a source that failed is asked again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What sources ask.
#[derive(Debug)]
pub struct Sources {
    resolver: Arc<Resolver>,
    ttls: Ttls,
    /// `None` where nobody asks it.
    consul: Option<Arc<Consul>>,
    filter: Arc<Filter>,
}

/// Why nothing could be asked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Dns(#[from] DnsError),
    #[error("consul: {0}")]
    Tls(#[from] TlsError),
}

impl Sources {
    pub fn new(config: &Config) -> Result<Self, SourceError> {
        Ok(Self {
            resolver: Arc::new(Resolver::new(&config.dns)?),
            ttls: Ttls::new(&config.dns),
            consul: config.consul.as_ref().map(Consul::new).transpose()?,
            filter: Arc::new(Filter::new(&config.discovery)),
        })
    }

    /// Follows one of a cluster's sources, by its place in the configuration, for as long as the
    /// sidecar runs.
    pub async fn follow(self: Arc<Self>, cluster: Arc<Cluster>, source: usize) {
        let reporter = Reporter {
            cluster: Arc::clone(&cluster),
            source,
            filter: Arc::clone(&self.filter),
            refusals: Mutex::default(),
        };
        let Some(source) = cluster.settings.sources.get(source) else { return };
        match source {
            // All there is to know was known from the start.
            Source::Static(_) => {}
            Source::File(path) => file::follow(path, &reporter).await,
            Source::Dns { name, port } => {
                refresh(&reporter, self.addresses(name, *port), self.ttls).await;
            }
            Source::DnsSrv { name } => refresh(&reporter, self.srv(name), self.ttls).await,
            Source::Consul(service) => {
                if let Some(consul) = &self.consul {
                    consul.follow(service, &reporter).await;
                }
            }
        }
    }

    /// What is remembered of a cluster from an earlier life, as far as it may be used.
    pub fn recall(&self, dir: &Path, settings: &config::Cluster) -> Option<store::Recalled> {
        let mut recalled = store::recall(dir, settings)?;
        recalled.endpoints = self.filter.sift(recalled.endpoints).0;
        (!recalled.endpoints.is_empty()).then_some(recalled)
    }

    /// Obeys orders for the whole fleet, where there may be any, for as long as the sidecar runs.
    pub async fn follow_orders(self: Arc<Self>, clusters: Vec<Arc<Cluster>>) {
        if let Some(consul) = &self.consul {
            consul.follow_orders(&clusters).await;
        }
    }

    /// Whether orders for the fleet can be written.
    pub fn takes_orders(&self) -> bool {
        self.consul.as_ref().is_some_and(|consul| consul.takes_orders())
    }

    /// Writes orders for the fleet, for as long as somebody may give some.
    pub async fn write_orders(
        self: Arc<Self>,
        wishes: Arc<tokio::sync::Mutex<mpsc::Receiver<FleetWrite>>>,
    ) {
        if let Some(consul) = &self.consul {
            consul.write_orders(&mut *wishes.lock().await).await;
        }
    }

    /// Asks a source once, for `outrigger check --live`.
    pub async fn ask(&self, source: &Source) -> Result<Vec<Endpoint>, String> {
        match source {
            Source::Static(endpoints) => Ok(endpoints.iter().map(from_static).collect()),
            Source::File(path) => file::read(path).await,
            Source::Dns { name, port } => self.addresses(name, *port).ask().await,
            Source::DnsSrv { name } => self.srv(name).ask().await,
            Source::Consul(service) => match &self.consul {
                Some(consul) => consul.ask(service).await,
                None => Ok(Vec::new()),
            },
        }
    }

    /// Whether an endpoint that this source has named may be used, or why not.
    pub fn admits(&self, source: &Source, endpoint: &Endpoint) -> Result<(), String> {
        match source {
            Source::Static(_) => Ok(()),
            _ => self.filter.admits(&endpoint.address).map_err(|why| format!("refused: {why}")),
        }
    }

    fn addresses(&self, name: &str, port: u16) -> DnsSource {
        DnsSource::addresses(Arc::clone(&self.resolver), self.ttls, name, port)
    }

    fn srv(&self, name: &str) -> DnsSource {
        DnsSource::srv(Arc::clone(&self.resolver), self.ttls, name)
    }
}

/// The endpoints of a source that has them in the configuration itself.
pub fn known(source: &Source) -> Option<Vec<Endpoint>> {
    match source {
        Source::Static(endpoints) => Some(endpoints.iter().map(from_static).collect()),
        Source::File(_) | Source::Dns { .. } | Source::DnsSrv { .. } | Source::Consul(_) => None,
    }
}

fn from_static(endpoint: &StaticEndpoint) -> Endpoint {
    Endpoint {
        weight: u32::from(endpoint.weight) * WEIGHT_ONE,
        priority: endpoint.priority,
        ..Endpoint::new(endpoint.address.clone())
    }
}

/// Tells a cluster's task what one of its sources says.
#[derive(Debug)]
struct Reporter {
    cluster: Arc<Cluster>,
    source: usize,
    filter: Arc<Filter>,
    /// What was refused of the last answer.
    refusals: Mutex<Refusals>,
}

impl Reporter {
    /// This is the whole set now, of which what may be used counts. `decided`: none at all is what
    /// the source means.
    async fn found(&self, endpoints: Vec<Endpoint>, decided: bool) {
        let (endpoints, refusals) = self.filter.sift(endpoints);
        self.note(refusals);
        let (source, at) = (self.source, SystemTime::now());
        self.tell(Event::Discovered(Answer { source, at, endpoints, decided })).await;
    }

    async fn failed(&self, error: String) {
        let (source, at) = (self.source, SystemTime::now());
        self.tell(Event::DiscoveryFailed { source, at, error }).await;
    }

    /// Each address is logged when it is refused, not with every answer that has it.
    fn note(&self, refusals: Refusals) {
        let mut before = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        for (address, why) in refusals.iter().filter(|(address, _)| !before.contains_key(address)) {
            let cluster = &self.cluster.settings.name;
            tracing::warn!(%cluster, %address, %why, "a discovered address is not used");
        }
        *before = refusals;
    }

    async fn tell(&self, event: Event) {
        // The task lives as long as the sidecar.
        let _ = self.cluster.events().send(event).await;
    }
}

/// Asks again whenever an answer expires, and after failures with growing patience.
async fn refresh(reporter: &Reporter, mut source: DnsSource, ttls: Ttls) {
    let mut rng = fastrand::Rng::new();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    loop {
        let asked = Instant::now();
        let wait = match source.lookup(asked).await {
            Ok(found) => {
                backoff.succeeded();
                reporter.found(found.endpoints, found.decided).await;
                ttls.wait(found.ttl, &mut rng)
            }
            Err(error) => {
                reporter.failed(error.to_string()).await;
                backoff.failed(&mut rng)
            }
        };
        // From when it was asked: a slow answer does not make the next one late.
        tokio::time::sleep_until((asked + wait).max(Instant::now() + ttls.floor() / 2)).await;
    }
}
