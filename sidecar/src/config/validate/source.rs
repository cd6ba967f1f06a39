//! Where endpoints come from.

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, SourceKind};
use crate::config::{ConsulName, ConsulService, Source, StaticEndpoint};
use crate::net::Address;

/// Endpoints of one cluster; discovery has the same bound.
const MAX_ENDPOINTS: usize = 5_000;

/// The keys of a `consul` source; it needs one of the first two.
const CONSUL_KEYS: [&str; 8] = [
    "service",
    "query",
    "tags",
    "passing_only",
    "datacenter",
    "namespace",
    "filter",
    "priority_key",
];
/// Where the tier of an instance is looked for.
const PRIORITY_KEY: &str = "outrigger-priority";

impl Judge {
    pub(super) fn sources(
        &mut self,
        raw: Option<&raw::Discoveries>,
        consul: &raw::Consul,
        path: &KeyPath,
    ) -> Option<Vec<Source>> {
        match raw {
            None => self.missing(path.clone()),
            Some(raw::Discoveries::One(only)) => Some(vec![self.source(only, consul, path)?]),
            Some(raw::Discoveries::Several(list)) if list.is_empty() => {
                self.fault(path.clone(), "is an empty list; accepted: at least one source")
            }
            Some(raw::Discoveries::Several(list)) => {
                let judge = |(i, raw): (usize, _)| self.source(raw, consul, &path.index(i));
                let sources: Vec<_> = list.iter().enumerate().map(judge).collect();
                sources.into_iter().collect()
            }
        }
    }

    fn source(
        &mut self,
        raw: &raw::Discovery,
        consul: &raw::Consul,
        path: &KeyPath,
    ) -> Option<Source> {
        let Some(kind) = raw.source else { return self.missing(path.key("source")) };
        self.keys_of(kind, raw, path);
        match kind {
            SourceKind::Static => {
                let endpoints = raw.endpoints.as_deref()?;
                self.endpoints(endpoints, &path.key("endpoints")).map(Source::Static)
            }
            SourceKind::File => self.path(raw.path.as_ref(), path.key("path")).map(Source::File),
            SourceKind::Dns => {
                let name = self.dns_name(raw.name.as_deref()?, path.key("name"));
                Some(Source::Dns { name: name?, port: raw.port? })
            }
            SourceKind::DnsSrv => {
                let name = self.dns_name(raw.name.as_deref()?, path.key("name"));
                Some(Source::DnsSrv { name: name? })
            }
            SourceKind::Consul => self.consul_service(raw, consul, path).map(Source::Consul),
        }
    }

    /// Looks whether the keys that are there belong to the kind, and those that it needs are there.
    fn keys_of(&mut self, kind: SourceKind, raw: &raw::Discovery, path: &KeyPath) {
        let (kind_name, needs, takes): (_, &[&str], &[&str]) = match kind {
            SourceKind::Static => ("static", &["endpoints"], &[]),
            SourceKind::File => ("file", &["path"], &[]),
            SourceKind::Dns => ("dns", &["name", "port"], &[]),
            SourceKind::DnsSrv => ("dns_srv", &["name"], &[]),
            SourceKind::Consul => ("consul", &[], &CONSUL_KEYS),
        };
        let given = [
            ("name", raw.name.is_some()),
            ("port", raw.port.is_some()),
            ("endpoints", raw.endpoints.is_some()),
            ("path", raw.path.is_some()),
            ("service", raw.service.is_some()),
            ("query", raw.query.is_some()),
            ("tags", raw.tags.is_some()),
            ("passing_only", raw.passing_only.is_some()),
            ("datacenter", raw.datacenter.is_some()),
            ("namespace", raw.namespace.is_some()),
            ("filter", raw.filter.is_some()),
            ("priority_key", raw.priority_key.is_some()),
        ];
        for (key, given) in given {
            match (given, needs.contains(&key), takes.contains(&key)) {
                (true, false, false) => {
                    let message = format!(
                        "source {kind_name:?} does not take it; accepted: source, {}",
                        [needs, takes].concat().join(", ")
                    );
                    self.fault::<()>(path.key(key), message);
                }
                (false, true, _) => {
                    let message = format!("is missing; source {kind_name:?} needs it");
                    self.fault::<()>(path.key(key), message);
                }
                _ => {}
            }
        }
    }

    fn consul_service(
        &mut self,
        raw: &raw::Discovery,
        consul: &raw::Consul,
        path: &KeyPath,
    ) -> Option<ConsulService> {
        let name = match (&raw.service, &raw.query) {
            (Some(service), None) => ConsulName::Service(service.clone()),
            (None, Some(query)) => ConsulName::Query(query.clone()),
            (None, None) => {
                let message = "is missing; source \"consul\" needs it, or `query`";
                return self.fault(path.key("service"), message);
            }
            (Some(_), Some(_)) => {
                return self
                    .fault(path.key("query"), "is there beside `service`; give one of them");
            }
        };
        let text = |value: &Option<String>, default: Option<&String>| {
            value.as_ref().or(default).filter(|text| !text.is_empty()).cloned()
        };
        let texts =
            [("service", &raw.service), ("query", &raw.query), ("priority_key", &raw.priority_key)];
        for (key, value) in texts {
            if value.as_ref().is_some_and(String::is_empty) {
                self.refuse::<()>(path.key(key), "", "a name");
            }
        }
        let mut tags = raw.tags.clone().unwrap_or_default();
        tags.sort();
        tags.dedup();
        Some(ConsulService {
            name,
            tags,
            passing_only: raw.passing_only.unwrap_or(false),
            datacenter: text(&raw.datacenter, consul.datacenter.as_ref()),
            namespace: text(&raw.namespace, consul.namespace.as_ref()),
            filter: text(&raw.filter, None),
            priority_key: raw.priority_key.clone().unwrap_or_else(|| PRIORITY_KEY.into()),
        })
    }

    fn dns_name(&mut self, text: &str, path: KeyPath) -> Option<String> {
        let labels: Vec<_> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
        let letters = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let label = |label: &&str| (1..=63).contains(&label.len()) && label.chars().all(letters);
        if text.len() > 253 || !labels.iter().all(label) {
            return self.refuse(path, text, "a DNS name such as \"_api._tcp.service.internal\"");
        }
        Some(text.into())
    }

    pub(super) fn endpoints(
        &mut self,
        raw: &[raw::StaticEndpoint],
        path: &KeyPath,
    ) -> Option<Vec<StaticEndpoint>> {
        if raw.len() > MAX_ENDPOINTS {
            let message = format!("has {} endpoints; accepted: at most {MAX_ENDPOINTS}", raw.len());
            return self.fault(path.clone(), message);
        }
        let mut endpoints: Vec<StaticEndpoint> = Vec::with_capacity(raw.len());
        let before = self.faults.len();
        for (i, endpoint) in raw.iter().enumerate() {
            let path = path.index(i);
            let Some(text) = &endpoint.address else {
                self.missing::<()>(path.key("address"));
                continue;
            };
            let Some(address) = self.address(text, path.key("address")) else { continue };
            if matches!(address, Address::Tcp(tcp) if tcp.port() == 0) {
                self.refuse::<()>(path.key("address"), &text.0, "a port from 1 to 65535");
            }
            if endpoints.iter().any(|other| other.address == address) {
                self.fault::<()>(path.key("address"), format!("{address} is there twice"));
            }
            let (weight, priority) = (endpoint.weight, endpoint.priority);
            endpoints.push(StaticEndpoint { address, weight, priority });
        }
        (self.faults.len() == before).then_some(endpoints)
    }
}
