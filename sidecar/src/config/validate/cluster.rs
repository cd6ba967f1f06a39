//! Clusters: their source, health checks, and what their backends are sent.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::PathAndQuery;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, ProbeKind, SourceKind};
use crate::config::{Cluster, ClusterTimeouts, Health, HostPolicy, Probe, Source, StaticEndpoint};
use crate::net::Address;

/// Endpoints of one cluster; discovery has the same bound.
const MAX_ENDPOINTS: usize = 5_000;

impl Judge {
    pub(super) fn clusters(
        &mut self,
        raw: &BTreeMap<String, raw::Cluster>,
        path: &KeyPath,
    ) -> Vec<Arc<Cluster>> {
        let judge = |(name, cluster): (&String, &raw::Cluster)| {
            let path = path.key(name);
            self.name(name, path.clone());
            self.cluster(name, cluster, &path).map(Arc::new)
        };
        raw.iter().filter_map(judge).collect()
    }

    fn cluster(&mut self, name: &str, raw: &raw::Cluster, path: &KeyPath) -> Option<Cluster> {
        let host = self.host_policy(&raw.host, path.key("host"));
        let panic_threshold = self.percent(&raw.panic_threshold, path.key("panic_threshold"));
        let source = match &raw.discovery {
            Some(discovery) => self.source(discovery, &path.key("discovery")),
            None => self.missing(path.key("discovery")),
        };
        let health = match &raw.health {
            Some(health) => self.health(health, &path.key("health")).map(Some),
            None => Some(None),
        };
        let timeouts = path.key("timeouts");
        let connect = self.timeout(&raw.timeouts.connect, timeouts.key("connect"));
        let response = self.timeout(&raw.timeouts.response, timeouts.key("response"));
        let stream_idle = self.timeout(&raw.timeouts.stream_idle, timeouts.key("stream_idle"));
        let idle = self.timeout(&raw.timeouts.idle, timeouts.key("idle"));
        Some(Cluster {
            name: name.into(),
            policy: raw.policy,
            host: host?,
            panic_threshold: panic_threshold?,
            source: source?,
            health: health?,
            timeouts: ClusterTimeouts {
                connect: connect?,
                response: response?,
                stream_idle: stream_idle?,
                idle: idle?,
            },
            attempts: usize::from(raw.retry.attempts),
        })
    }

    fn host_policy(&mut self, text: &str, path: KeyPath) -> Option<HostPolicy> {
        match text {
            "auto" => Some(HostPolicy::Auto),
            "preserve" => Some(HostPolicy::Preserve),
            "target" => Some(HostPolicy::Target),
            literal => {
                let authority = literal.parse::<http::uri::Authority>();
                let plain = authority.is_ok_and(|parsed| !parsed.as_str().contains('@'));
                match HeaderValue::from_str(literal) {
                    Ok(value) if plain => Some(HostPolicy::Literal(value)),
                    _ => {
                        let accepted = "\"auto\", \"preserve\", \"target\" or a host to send";
                        self.refuse(path, literal, accepted)
                    }
                }
            }
        }
    }

    fn source(&mut self, raw: &raw::Discovery, path: &KeyPath) -> Option<Source> {
        let Some(kind) = raw.source else { return self.missing(path.key("source")) };
        let (kind_name, takes): (_, &[&str]) = match kind {
            SourceKind::Static => ("static", &["endpoints"]),
            SourceKind::Dns => ("dns", &["name", "port"]),
            SourceKind::DnsSrv => ("dns_srv", &["name"]),
        };
        let given = [
            ("name", raw.name.is_some()),
            ("port", raw.port.is_some()),
            ("endpoints", raw.endpoints.is_some()),
        ];
        for (key, given) in given {
            match (given, takes.contains(&key)) {
                (true, false) => {
                    let message = format!(
                        "source {kind_name:?} does not take it; accepted: source, {}",
                        takes.join(", ")
                    );
                    self.fault::<()>(path.key(key), message);
                }
                (false, true) => {
                    let message = format!("is missing; source {kind_name:?} needs it");
                    self.fault::<()>(path.key(key), message);
                }
                _ => {}
            }
        }
        match kind {
            SourceKind::Static => {
                let endpoints = raw.endpoints.as_deref()?;
                self.endpoints(endpoints, &path.key("endpoints")).map(Source::Static)
            }
            SourceKind::Dns => {
                let name = self.dns_name(raw.name.as_deref()?, path.key("name"));
                Some(Source::Dns { name: name?, port: raw.port? })
            }
            SourceKind::DnsSrv => {
                let name = self.dns_name(raw.name.as_deref()?, path.key("name"));
                Some(Source::DnsSrv { name: name? })
            }
        }
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

    fn endpoints(
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

    fn health(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<Health> {
        let interval = self.duration(&raw.interval, path.key("interval"));
        let timeout = self.duration(&raw.timeout, path.key("timeout"));
        let probe = match raw.probe {
            None => self.missing(path.key("probe")),
            Some(ProbeKind::Tcp) => {
                let http_only =
                    [("path", raw.path.is_some()), ("expect_status", raw.expect_status.is_some())];
                for (key, _) in http_only.into_iter().filter(|(_, given)| *given) {
                    self.fault::<()>(path.key(key), "probe \"tcp\" does not take it");
                }
                Some(Probe::Tcp)
            }
            Some(ProbeKind::Http) => self.http_probe(raw, path),
        };
        Some(Health {
            probe: probe?,
            interval: interval?,
            timeout: timeout?,
            rise: raw.rise,
            fall: raw.fall,
        })
    }

    fn http_probe(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<Probe> {
        let text = raw.path.as_deref().unwrap_or("/");
        let target = match PathAndQuery::try_from(text) {
            Ok(target) if text.starts_with('/') => Some(target),
            _ => self.refuse(path.key("path"), text, "a path that starts with `/`"),
        };
        let default = vec!["200-299".to_owned()];
        let statuses = raw.expect_status.as_ref().unwrap_or(&default);
        if statuses.is_empty() {
            self.fault::<()>(path.key("expect_status"), "is empty, so no answer would ever pass");
        }
        let judged: Vec<_> = statuses
            .iter()
            .enumerate()
            .map(|(i, text)| self.status_range(text, path.key("expect_status").index(i)))
            .collect();
        let expect_status = judged.into_iter().collect::<Option<Vec<_>>>();
        Some(Probe::Http { path: target?, expect_status: expect_status? })
    }

    fn status_range(&mut self, text: &str, path: KeyPath) -> Option<RangeInclusive<u16>> {
        let status = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
        let range = match text.split_once('-') {
            Some((low, high)) => status(low).zip(status(high)),
            None => status(text).map(|code| (code, code)),
        };
        match range {
            Some((low, high)) if low <= high => Some(low..=high),
            _ => self.refuse(path, text, "a status or a range from 100 to 599, \"200-299\""),
        }
    }
}
