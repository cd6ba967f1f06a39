//! Where endpoints come from.

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, SourceKind};
use crate::config::{Source, StaticEndpoint};
use crate::net::Address;

/// Endpoints of one cluster; discovery has the same bound.
const MAX_ENDPOINTS: usize = 5_000;

impl Judge {
    pub(super) fn source(&mut self, raw: &raw::Discovery, path: &KeyPath) -> Option<Source> {
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
}
