//! Where endpoints come from.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::Address;

#[derive(Debug, Clone)]
pub enum Source {
    Static(Vec<StaticEndpoint>),
    File(PathBuf),
    Dns { name: String, port: u16 },
    DnsSrv { name: String },
    Consul(ConsulService),
}

impl Source {
    /// The name of the kind, as the file and the metrics have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Static(_) => "static",
            Self::File(_) => "file",
            Self::Dns { .. } => "dns",
            Self::DnsSrv { .. } => "dns_srv",
            Self::Consul(_) => "consul",
        }
    }

    pub(super) fn is_consul(&self) -> bool {
        matches!(self, Self::Consul(_))
    }

    /// What it gives, as people speak of it.
    pub fn answer(&self) -> &'static str {
        match self {
            Self::Static(_) => "the configuration",
            Self::File(_) => "the file",
            Self::Dns { .. } => "the DNS answer",
            Self::DnsSrv { .. } => "the SRV answer",
            Self::Consul(_) => "Consul's answer",
        }
    }

    /// What it is asked for: two sources that say the same have the same endpoints.
    pub fn question(&self) -> String {
        match self {
            Self::Static(_) => "static".into(),
            Self::File(path) => format!("file {}", path.display()),
            Self::Dns { name, port } => format!("dns {name}:{port}"),
            Self::DnsSrv { name } => format!("dns_srv {name}"),
            Self::Consul(service) => format!("consul {service:?}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEndpoint {
    pub address: Address,
    pub weight: u16,
    pub priority: u16,
}

/// What Consul is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsulService {
    pub name: ConsulName,
    /// An instance must have all of them.
    pub tags: Vec<String>,
    pub passing_only: bool,
    /// `None`: the agent's own.
    pub datacenter: Option<String>,
    pub namespace: Option<String>,
    pub filter: Option<String>,
    /// The meta key, or the tag before `=`, that says the tier.
    pub priority_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ConsulName {
    Service(String),
    /// A prepared query, by its name or id.
    Query(String),
}

/// How Consul is asked.
#[derive(Debug, Clone)]
pub struct Consul {
    pub address: ConsulAddress,
    /// With an address off this machine only over TLS.
    pub token_file: Option<PathBuf>,
    /// `None`: the system's certificates.
    pub ca_file: Option<PathBuf>,
    /// For fleet-wide orders; a service has its own.
    pub datacenter: Option<String>,
    pub namespace: Option<String>,
    pub stale: bool,
    /// At most ten minutes.
    pub wait: Duration,
    /// Ends in `/`; `None`: there are no fleet-wide orders.
    pub kv_prefix: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulAddress {
    pub tls: bool,
    /// A name or an IP address, an IPv6 one without brackets.
    pub host: String,
    pub port: u16,
}

impl ConsulAddress {
    /// Whether what is sent stays on this machine.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}
