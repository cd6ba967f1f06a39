//! Endpoints from DNS: addresses behind a name, or SRV records.

mod addresses;
mod answer;
mod nameservers;
mod resolver;
mod srv;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::Instant;

use crate::cluster::Endpoint;
use crate::config;
use crate::net::Address;
use addresses::Addresses;
use answer::Answer;
pub(super) use answer::DnsError;
pub(super) use resolver::Resolver;
use srv::host_name;

/// The bounds of how long answers are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ttls {
    min: Duration,
    max: Duration,
}

impl Ttls {
    pub(super) fn new(config: &config::Dns) -> Self {
        Self { min: config.min_ttl, max: config.max_ttl }
    }

    /// No answer is asked for again sooner.
    pub(super) fn floor(self) -> Duration {
        self.min
    }

    fn clamp(self, ttl: u32) -> Duration {
        Duration::from_secs(ttl.into()).clamp(self.min, self.max)
    }

    /// How long to wait before asking again: the clamped TTL less up to a tenth, so that a fleet
    /// does not ask in step, but never below the lower bound.
    pub(super) fn wait(self, ttl: u32, rng: &mut fastrand::Rng) -> Duration {
        self.clamp(ttl).mul_f64(1.0 - 0.1 * rng.f64()).max(self.min)
    }
}

/// What a source says now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether it says that there decidedly is no service.
    pub(super) decided: bool,
    /// How long it may be relied on, in seconds.
    pub(super) ttl: u32,
}

/// A name to ask for, with what is remembered between two answers.
#[derive(Debug)]
pub(super) struct DnsSource {
    resolver: Arc<Resolver>,
    name: String,
    kind: Kind,
    addresses: Addresses,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Addresses { port: u16 },
    Srv,
}

impl DnsSource {
    pub(super) fn addresses(resolver: Arc<Resolver>, ttls: Ttls, name: &str, port: u16) -> Self {
        Self::new(resolver, ttls, name, Kind::Addresses { port })
    }

    pub(super) fn srv(resolver: Arc<Resolver>, ttls: Ttls, name: &str) -> Self {
        Self::new(resolver, ttls, name, Kind::Srv)
    }

    fn new(resolver: Arc<Resolver>, ttls: Ttls, name: &str, kind: Kind) -> Self {
        Self { resolver, name: name.into(), kind, addresses: Addresses::new(ttls) }
    }

    /// The current set, or why it is not known: what the first name has that has anything. A name
    /// of which that is not known ends the search, since the next may be another service.
    pub(super) async fn lookup(&mut self, now: Instant) -> Result<Found, DnsError> {
        let candidates = self.resolver.candidates(&self.name)?;
        let mut none_for = u32::MAX;
        for tried in (1..=candidates.len()).filter_map(|count| candidates.get(..count)) {
            let [.., name] = tried else { continue };
            let said = match self.kind {
                Kind::Addresses { port } => self.lookup_addresses(name, tried, port, now).await?,
                Kind::Srv => self.lookup_srv(name.clone(), now).await?,
            };
            match said {
                Said::Something(found) => {
                    return Ok(Found { ttl: found.ttl.min(none_for), ..found });
                }
                Said::Nothing { ttl } => none_for = none_for.min(ttl),
            }
        }
        Ok(Found { endpoints: Vec::new(), decided: false, ttl: none_for })
    }

    /// Asks once, as of now.
    pub(super) async fn ask(&mut self) -> Result<Vec<Endpoint>, String> {
        let found = self.lookup(Instant::now()).await;
        found.map(|found| found.endpoints).map_err(|e| e.to_string())
    }

    /// `tried`: this name and those before it, whose answers are still of use.
    async fn lookup_addresses(
        &mut self,
        name: &Name,
        tried: &[Name],
        port: u16,
        now: Instant,
    ) -> Result<Said, DnsError> {
        let ttl = self.addresses.refresh(&self.resolver, tried, now).await;
        let known = self.addresses.of(name)?;
        if known.is_empty() {
            return Ok(Said::Nothing { ttl });
        }
        let target = host_name(name);
        let endpoint = |ip: &IpAddr| Endpoint {
            target: target.clone(),
            ..Endpoint::new(Address::Tcp((*ip, port).into()))
        };
        let endpoints = known.iter().map(endpoint).collect();
        Ok(Said::Something(Found { endpoints, decided: false, ttl }))
    }

    async fn lookup_srv(&mut self, name: Name, now: Instant) -> Result<Said, DnsError> {
        let (records, additional, ttl) = match self.resolver.ask(name, RecordType::SRV).await? {
            Answer::None { ttl } => return Ok(Said::Nothing { ttl }),
            Answer::Records { records, additional, ttl } => (records, additional, ttl),
        };
        let decided = srv::says_no_service(&records);
        let records = srv::records(&records);
        let targets = srv::targets(&records);
        let glue_ttl = self.addresses.take_glue(&targets, &additional, now);
        let address_ttl = self.addresses.refresh(&self.resolver, &targets, now).await;
        let endpoints = srv::endpoints(&records, |target| self.addresses.of(target))?;
        let ttl = ttl.min(glue_ttl).min(address_ttl);
        Ok(Said::Something(Found { endpoints, decided, ttl }))
    }
}

/// What is said of one name.
enum Said {
    Something(Found),
    /// It has no such records (NXDOMAIN or NODATA), for so long.
    Nothing {
        ttl: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_clamped_and_jittered_downwards_only() {
        let seconds = Duration::from_secs;
        let ttls = Ttls { min: seconds(1), max: seconds(60) };
        let mut rng = fastrand::Rng::with_seed(1);
        for (ttl, expected) in [(0, 1), (1, 1), (30, 30), (60, 60), (i32::MAX as u32 + 1, 60)] {
            for _ in 0..100 {
                let wait = ttls.wait(ttl, &mut rng);
                let least = seconds(expected).mul_f64(0.9).max(seconds(1));
                assert!(wait >= least && wait <= seconds(expected), "{ttl}: {wait:?}");
            }
        }
    }
}
