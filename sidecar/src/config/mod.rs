//! Configuration: what the sidecar is told, read once and judged as a whole.
//!
//! [`raw`] is the file as written, [`Config`] is its meaning; between them stand the schema
//! (shape) and [`validate`] (meaning), and every problem of both is reported at once.

mod control;
mod discovery;
mod error;
mod health;
mod listener;
mod load;
mod policies;
pub mod raw;
mod schema;
mod source;
mod tls;
mod units;
mod validate;
mod warnings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use control::Control;
pub use discovery::{Consul, ConsulAddress, ConsulName, ConsulService, Source, StaticEndpoint};
pub use error::{Place, Problem, Problems};
pub use health::{Expected, Health, HttpProbe, JsonCondition, Probe, UdpProbe};
pub use listener::{
    HostMatch, HttpTraffic, Listener, ListenerTimeouts, Route, TcpRoute, TcpTraffic, Traffic,
    UdpTraffic,
};
pub use load::{Loaded, load, load_defaults, load_endpoints, load_text};
pub use policies::{Affinity, AffinityBy, AffinityKey, Drain, Limits, OnLeaving, Outlier, Retry};
pub use schema::schema;
pub use tls::{ClusterTls, ListenerTls};
pub use units::DurationText;

use ipnet::IpNet;

use crate::balancer::Policy;
use crate::net::Address;
use crate::net::proxy_protocol::{self, Addresses, Transport};
use raw::{LogFormat, LogLevel};

pub use raw::ProxyProtocol;

/// A configuration that has passed every check.
#[derive(Debug, Clone)]
pub struct Config {
    pub admin: Admin,
    /// `None`: it is off.
    pub control: Option<Control>,
    pub runtime: Runtime,
    pub log: Log,
    pub dns: Dns,
    pub discovery: AddressFilter,
    /// `None`: it is not used.
    pub consul: Option<Consul>,
    pub affinity: AffinitySecret,
    pub listeners: Vec<Listener>,
    /// Sorted by name; every cluster that a listener names is here.
    pub clusters: Vec<Arc<Cluster>>,
}

impl Config {
    /// Whether some cluster keeps its clients by cookies.
    pub fn has_cookies(&self) -> bool {
        let by_cookie =
            |cluster: &Arc<Cluster>| matches!(cluster.affinity.key, AffinityKey::Cookie(_));
        self.clusters.iter().any(by_cookie)
    }
}

#[derive(Debug, Clone)]
pub struct Admin {
    pub listen: Address,
}

#[derive(Debug, Clone)]
pub struct Runtime {
    pub workers: usize,
    /// `None`: nothing outlives a restart.
    pub state_dir: Option<PathBuf>,
    pub shutdown_grace: Duration,
    pub start_timeout: Duration,
    /// Remembered endpoints that are older are of no use.
    pub max_stale: Duration,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
    pub access: Access,
}

/// Where ended connections and sessions are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Off,
    Stdout,
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Dns {
    /// Empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// `None`: the system's where the nameservers are, or else none.
    pub search: Option<Vec<String>>,
    pub tcp: bool,
    pub timeout: Duration,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
}

/// Which addresses that were discovered may be used.
#[derive(Debug, Clone, Default)]
pub struct AddressFilter {
    /// Empty: all but those of kinds that no backend has.
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

/// What all clusters with affinity share.
#[derive(Debug, Clone)]
pub struct AffinitySecret {
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Cluster {
    pub name: Arc<str>,
    pub policy: Policy,
    pub host: HostPolicy,
    /// 0..=100; 0 turns panic off.
    pub panic_threshold: u8,
    /// Whether a tier that is short of eligible backends shares its traffic with the next.
    pub tier_spill: bool,
    /// `None`: what discovery takes away goes at once, however much it is.
    pub removal_hold: Option<Duration>,
    /// At least one; the first that has an answer is used.
    pub sources: Vec<Source>,
    pub health: Option<Health>,
    pub timeouts: ClusterTimeouts,
    pub retry: Retry,
    /// `None`: real traffic is not judged.
    pub outlier: Option<Outlier>,
    pub drain: Drain,
    pub affinity: Affinity,
    pub limits: Limits,
    /// `None`: backends are not told who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `None`: everyone has its full share at once.
    pub slow_start: Option<Duration>,
    /// `None`: in the clear.
    pub tls: Option<ClusterTls>,
}

impl Cluster {
    /// The kind of the source at this place, as the metrics have it; empty where there is none.
    pub fn source_kind(&self, place: Option<usize>) -> &'static str {
        place.and_then(|place| self.sources.get(place)).map_or("", Source::kind)
    }
}

/// Which Host a backend is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPolicy {
    /// The app's, unless it names the listener itself; then the target's name.
    Auto,
    /// The app's.
    Preserve,
    /// The target's name.
    Target,
    Literal(http::HeaderValue),
}

impl ProxyProtocol {
    /// What a connection begins with on behalf of these addresses, or of nobody but ourselves.
    pub fn header(self, addresses: Option<&Addresses>) -> Vec<u8> {
        let mut header = Vec::new();
        match self {
            Self::V1 => proxy_protocol::write_v1(&mut header, addresses),
            Self::V2 => proxy_protocol::write_v2(&mut header, Transport::Stream, addresses, &[]),
        }
        header
    }
}

impl HostPolicy {
    /// The name of a backend that is called `own`, where no request says another.
    pub fn of<'a>(&'a self, own: &'a http::HeaderValue) -> &'a http::HeaderValue {
        match self {
            Self::Literal(literal) => literal,
            Self::Auto | Self::Preserve | Self::Target => own,
        }
    }
}

/// `None`: disabled.
#[derive(Debug, Clone, Copy)]
pub struct ClusterTimeouts {
    pub connect: Option<Duration>,
    pub response: Option<Duration>,
    pub stream_idle: Option<Duration>,
    /// Of a tunnel or TCP connection.
    pub idle: Option<Duration>,
    /// Of a TCP connection of which one side has ended.
    pub half_closed: Option<Duration>,
    /// How old a TCP connection may become.
    pub max_age: Option<Duration>,
    /// Of a UDP session.
    pub session_idle: Option<Duration>,
}
