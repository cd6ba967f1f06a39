//! What a configuration of the right shape means, or every reason why it means nothing.

mod addressee;
mod cluster;
mod consul;
mod control;
mod cookies;
mod health;
mod http_probe;
mod listener;
mod policies;
mod route;
mod source;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::error::KeyPath;
use super::raw::{self, AccessText, Raw};
use super::units::{AddressText, DurationText, PathText, PercentText, TimeoutText};
use super::{
    Access, AddressFilter, Admin, AffinitySecret, Cluster, Config, Dns, Log, Runtime, Source,
    StaticEndpoint,
};
use crate::net::Address;

/// Answers of DNS are not asked for more often than this.
const TTL_FLOOR: Duration = Duration::from_secs(1);
const NAME_ACCEPTS: &str =
    "a name of a-z, 0-9, `_` and `-`, starting with a letter, at most 63 characters, no `__`";

pub(super) type Fault = (KeyPath, String);

/// The meaning of `raw`, or all that is wrong with it.
pub(super) fn validate(raw: &Raw) -> Result<Config, Vec<Fault>> {
    let mut judge = Judge { faults: Vec::new() };
    let root = KeyPath::default();
    let admin = judge.admin(&raw.admin, &root.key("admin"));
    let control = judge.control(&raw.control, &root.key("control"));
    let runtime = judge.runtime(&raw.runtime, &root.key("runtime"));
    let dns = judge.dns(&raw.dns, &root.key("dns"));
    let discovery = judge.address_filter(&raw.discovery, &root.key("discovery"));
    let default_consul = raw::Consul::default();
    let raw_consul = raw.consul.as_ref().unwrap_or(&default_consul);
    let consul = judge.consul(raw_consul, &root.key("consul"));
    let affinity = judge.affinity_secret(&raw.affinity, &root.key("affinity"));
    let listeners = judge.listeners(raw, &root.key("listeners"));
    let clusters = judge.clusters(&raw.clusters, raw_consul, &root.key("clusters"));
    judge.addressees(&listeners, &clusters, &root);
    judge.shared_cookies(&listeners, &clusters, &root.key("listeners"));
    let access = judge.access(&raw.log.access, root.key("log").key("access"));
    let log = Log { level: raw.log.level, format: raw.log.format, access };
    let asks_consul = |cluster: &Arc<Cluster>| cluster.sources.iter().any(Source::is_consul);
    let consul = consul.filter(|_| raw.consul.is_some() || clusters.iter().any(asks_consul));
    match (admin, control, runtime, dns, judge.faults.is_empty()) {
        (Some(admin), Some(control), Some(runtime), Some(dns), true) => Ok(Config {
            admin,
            control,
            runtime,
            log,
            dns,
            discovery,
            consul,
            affinity,
            listeners,
            clusters,
        }),
        _ => Err(judge.faults),
    }
}

/// The meaning of a list of endpoints, or all that is wrong with it.
pub(super) fn endpoints(raw: &[raw::StaticEndpoint]) -> Result<Vec<StaticEndpoint>, Vec<Fault>> {
    let mut judge = Judge { faults: Vec::new() };
    let endpoints = judge.endpoints(raw, &KeyPath::default().key("endpoints"));
    endpoints.ok_or(judge.faults)
}

/// Collects faults; a function that answers `None` has left at least one.
struct Judge {
    faults: Vec<Fault>,
}

impl Judge {
    fn fault<T>(&mut self, path: KeyPath, message: impl Into<String>) -> Option<T> {
        self.faults.push((path, message.into()));
        None
    }

    fn refuse<T>(&mut self, path: KeyPath, got: &str, accepted: &str) -> Option<T> {
        self.fault(path, format!("got {got:?}; accepted: {accepted}"))
    }

    fn missing<T>(&mut self, path: KeyPath) -> Option<T> {
        self.fault(path, "is missing")
    }

    fn duration(&mut self, text: &DurationText, path: KeyPath) -> Option<Duration> {
        text.parse().or_else(|| self.refuse(path, &text.0, DurationText::ACCEPTS))
    }

    fn timeout(&mut self, text: &TimeoutText, path: KeyPath) -> Option<Option<Duration>> {
        text.parse().or_else(|| self.refuse(path, &text.0, TimeoutText::ACCEPTS))
    }

    fn percent(&mut self, text: &PercentText, path: KeyPath) -> Option<u8> {
        text.parse().or_else(|| self.refuse(path, &text.0, PercentText::ACCEPTS))
    }

    fn address(&mut self, text: &AddressText, path: KeyPath) -> Option<Address> {
        text.parse().or_else(|| self.refuse(path, &text.0, AddressText::ACCEPTS))
    }

    /// What is left out is `None`, as is what was refused.
    fn path(&mut self, text: Option<&PathText>, path: KeyPath) -> Option<PathBuf> {
        let text = text?;
        text.parse().or_else(|| self.refuse(path, &text.0, PathText::ACCEPTS))
    }

    fn admin(&mut self, raw: &raw::Admin, path: &KeyPath) -> Option<Admin> {
        Some(Admin { listen: self.address(&raw.listen, path.key("listen"))? })
    }

    fn runtime(&mut self, raw: &raw::Runtime, path: &KeyPath) -> Option<Runtime> {
        let shutdown_grace = self.duration(&raw.shutdown_grace, path.key("shutdown_grace"));
        let start_timeout = self.duration(&raw.start_timeout, path.key("start_timeout"));
        let max_stale = self.duration(&raw.max_stale, path.key("max_stale"));
        let state_dir = self.path(raw.state_dir.as_ref(), path.key("state_dir"));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Some(Runtime {
            workers: raw.workers.map_or(cores.min(2), usize::from),
            state_dir,
            shutdown_grace: shutdown_grace?,
            start_timeout: start_timeout?,
            max_stale: max_stale?,
        })
    }

    fn access(&mut self, text: &AccessText, path: KeyPath) -> Access {
        match text.0.as_str() {
            "off" => Access::Off,
            "stdout" => Access::Stdout,
            file if file.contains('/') => Access::File(file.into()),
            other => {
                let accepted = "\"off\", \"stdout\" or a path with a `/` in it";
                self.refuse::<()>(path, other, accepted);
                Access::Off
            }
        }
    }

    fn affinity_secret(&mut self, raw: &raw::AffinitySecret, path: &KeyPath) -> AffinitySecret {
        AffinitySecret { secret_file: self.path(raw.secret_file.as_ref(), path.key("secret_file")) }
    }

    fn dns(&mut self, raw: &raw::Dns, path: &KeyPath) -> Option<Dns> {
        let timeout = self.duration(&raw.timeout, path.key("timeout"));
        let min_ttl = self.duration(&raw.min_ttl, path.key("min_ttl"));
        let max_ttl = self.duration(&raw.max_ttl, path.key("max_ttl"));
        let nameservers: Vec<_> = raw
            .nameservers
            .iter()
            .enumerate()
            .filter_map(|(i, text)| self.nameserver(text, path.key("nameservers").index(i)))
            .collect();
        let search = raw.search.as_ref().map(|domains| {
            let domains = domains.iter().enumerate();
            let path = path.key("search");
            domains.filter_map(|(i, text)| self.search_domain(text, path.index(i))).collect()
        });
        if min_ttl.is_some_and(|ttl| ttl < TTL_FLOOR) {
            self.refuse::<()>(path.key("min_ttl"), &raw.min_ttl.0, "at least \"1s\"");
        }
        if let (Some(min), Some(max)) = (min_ttl, max_ttl)
            && max < min
        {
            let accepted = format!("at least min_ttl, {:?}", raw.min_ttl.0);
            self.refuse::<()>(path.key("max_ttl"), &raw.max_ttl.0, &accepted);
        }
        Some(Dns {
            nameservers,
            search,
            tcp: raw.tcp,
            timeout: timeout?,
            min_ttl: min_ttl?,
            max_ttl: max_ttl?,
        })
    }

    fn search_domain(&mut self, text: &str, path: KeyPath) -> Option<String> {
        let label = |label: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            (1..=63).contains(&label.len()) && label.bytes().all(plain)
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        let valid = name.len() <= 253 && name.split('.').all(label);
        if valid {
            Some(name.into())
        } else {
            self.refuse(path, text, "a domain, \"svc.internal\"")
        }
    }

    fn address_filter(&mut self, raw: &raw::AddressFilter, path: &KeyPath) -> AddressFilter {
        AddressFilter {
            allow: self.networks(&raw.allow, &path.key("allow")),
            deny: self.networks(&raw.deny, &path.key("deny")),
        }
    }

    fn networks(&mut self, texts: &[String], path: &KeyPath) -> Vec<IpNet> {
        let network = |(i, text): (usize, &String)| {
            let accepted = "a network, \"10.0.0.0/8\" or \"fd00::/8\"";
            text.parse().ok().or_else(|| self.refuse(path.index(i), text, accepted))
        };
        texts.iter().enumerate().filter_map(network).collect()
    }

    fn nameserver(&mut self, text: &str, path: KeyPath) -> Option<SocketAddr> {
        text.parse::<SocketAddr>()
            .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)))
            .ok()
            .or_else(|| self.refuse(path, text, "\"ip\" or \"ip:port\""))
    }

    fn name(&mut self, name: &str, path: KeyPath) -> bool {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        let valid = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.len() <= 63
            && name.chars().all(letters)
            && !name.contains("__");
        if !valid {
            self.refuse::<()>(path, name, NAME_ACCEPTS);
        }
        valid
    }
}
