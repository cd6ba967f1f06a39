//! From what Consul says of a service to endpoints.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::client::ConsulError;
use crate::cluster::{Endpoint, Reported, WEIGHT_ONE};
use crate::config::{ConsulName, ConsulService};
use crate::net::Address;

/// An instance of a service, as far as it can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    address: SocketAddr,
    node: String,
    tags: Vec<String>,
    meta: HashMap<String, String>,
    status: Status,
    /// While it passes, and while it has warnings.
    weights: (u16, u16),
}

/// The worst of the checks of an instance and its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

/// What an answer holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Instances {
    pub(super) list: Vec<Instance>,
    /// Items that cannot be used, and why the first cannot.
    pub(super) skipped: usize,
    pub(super) why: Option<String>,
}

/// An item of the wrong shape costs itself, not the others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Item {
    Good(Box<Raw>),
    Bad(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    node: RawNode,
    service: RawService,
    checks: Option<Vec<RawCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNode {
    node: String,
    address: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService {
    #[serde(rename = "ID")]
    id: String,
    address: Option<String>,
    port: u16,
    tags: Option<Vec<String>>,
    meta: Option<HashMap<String, String>>,
    weights: Option<RawWeights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawWeights {
    passing: Option<i64>,
    warning: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck {
    #[serde(rename = "CheckID")]
    id: Option<String>,
    status: Option<String>,
}

/// The answer of a prepared query.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Executed {
    nodes: Option<Vec<Item>>,
}

/// Reads the answer to a question about this name.
pub(super) fn parse(name: &ConsulName, body: &[u8]) -> Result<Instances, ConsulError> {
    let broken = |e: serde_json::Error| ConsulError::Broken(format!("its answer: {e}"));
    let items: Vec<Item> = match name {
        ConsulName::Service(_) => serde_json::from_slice(body).map_err(broken)?,
        ConsulName::Query(_) => {
            let executed: Executed = serde_json::from_slice(body).map_err(broken)?;
            executed.nodes.unwrap_or_default()
        }
    };
    let (mut instances, mut seen) = (Instances::default(), HashSet::new());
    for item in items {
        let read = match item {
            Item::Good(raw) => Instance::read(*raw, &mut seen),
            Item::Bad(_) => Err("it has not the shape of an instance".to_owned()),
        };
        match read {
            Ok(instance) => instances.list.push(instance),
            Err(why) => {
                instances.skipped += 1;
                instances.why.get_or_insert(why);
            }
        }
    }
    Ok(instances)
}

impl Instance {
    /// `seen`: the instances that were there already, by node and id, since an id is unique on its
    /// agent only.
    fn read(raw: Raw, seen: &mut HashSet<(String, String)>) -> Result<Self, String> {
        let Raw { node, service, checks } = raw;
        let given = service.address.filter(|address| !address.is_empty());
        let host = given.or(node.address).unwrap_or_default();
        let ip: IpAddr = host.parse().map_err(|_| format!("{host:?} is not an IP address"))?;
        if service.port == 0 {
            return Err(format!("{host} has no port"));
        }
        if !seen.insert((node.node.clone(), service.id.clone())) {
            return Err(format!("{:?} on {:?} is there twice", service.id, node.node));
        }
        let checks = checks.unwrap_or_default();
        let status = checks.iter().map(RawCheck::status).max().unwrap_or(Status::Passing);
        let weight = |weight: Option<i64>| {
            u16::try_from(weight.unwrap_or(1).clamp(0, u16::MAX.into())).unwrap_or(u16::MAX)
        };
        let weights = service.weights.unwrap_or(RawWeights { passing: None, warning: None });
        Ok(Self {
            address: SocketAddr::new(ip, service.port),
            node: node.node,
            tags: service.tags.unwrap_or_default(),
            meta: service.meta.unwrap_or_default(),
            status,
            weights: (weight(weights.passing), weight(weights.warning)),
        })
    }

    /// What it is to a cluster; `None`: it is not one of those that are asked for.
    pub(super) fn endpoint(&self, service: &ConsulService) -> Option<Endpoint> {
        if !service.tags.iter().all(|tag| self.tags.contains(tag)) {
            return None;
        }
        let (reported, weight) = match self.status {
            Status::Passing => (Reported::Passing, self.weights.0),
            Status::Warning if service.passing_only => (Reported::Critical, self.weights.1),
            Status::Warning => (Reported::Passing, self.weights.1),
            Status::Critical => (Reported::Critical, self.weights.0),
            Status::Maintenance => (Reported::Maintenance, self.weights.0),
        };
        Some(Endpoint {
            node: Some(self.node.as_str().into()),
            weight: u32::from(weight) * WEIGHT_ONE,
            priority: self.priority(&service.priority_key),
            reported,
            ..Endpoint::new(Address::Tcp(self.address))
        })
    }

    /// From the meta value of this name, or else from a tag `KEY=N`; what is no number is 0.
    fn priority(&self, key: &str) -> u16 {
        let tag = |tag: &String| {
            let (name, value) = tag.split_once('=')?;
            (name == key).then(|| value.to_owned())
        };
        let said = self.meta.get(key).cloned().or_else(|| self.tags.iter().find_map(tag));
        said.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

impl RawCheck {
    fn status(&self) -> Status {
        let id = self.id.as_deref().unwrap_or_default();
        let by_hand = id == "_node_maintenance" || id.starts_with("_service_maintenance:");
        match self.status.as_deref() {
            Some("critical") if by_hand => Status::Maintenance,
            Some("passing") => Status::Passing,
            Some("warning") => Status::Warning,
            // What cannot be understood is not taken for good.
            _ => Status::Critical,
        }
    }
}

#[cfg(test)]
mod tests;
