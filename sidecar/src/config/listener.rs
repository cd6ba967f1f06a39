//! Listeners: where the app sends its traffic, what is spoken there, and where it goes.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::ListenerTls;
use crate::net::Address;

#[derive(Debug, Clone)]
pub struct Listener {
    pub name: Arc<str>,
    pub listen: Address,
    /// Without meaning for UDP, as `max_per_source`.
    pub max_connections: Option<usize>,
    pub max_per_source: Option<u32>,
    /// From whom each connection has to begin with a header of the PROXY protocol; `None`:
    /// nobody may send one.
    pub proxy_protocol: Option<Vec<IpNet>>,
    /// `None`: in the clear.
    pub tls: Option<ListenerTls>,
    pub traffic: Traffic,
}

#[derive(Debug, Clone)]
pub enum Traffic {
    Http(HttpTraffic),
    Tcp(TcpTraffic),
    Udp(UdpTraffic),
}

impl Traffic {
    /// As it is named in the configuration.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Udp(_) => "udp",
        }
    }
}

#[derive(Debug, Clone)]
pub struct HttpTraffic {
    /// At least one; a listener with `cluster` has one route that matches everything.
    pub routes: Vec<Route>,
    pub timeouts: ListenerTimeouts,
}

#[derive(Debug, Clone)]
pub struct TcpTraffic {
    /// As those of HTTP.
    pub routes: Vec<TcpRoute>,
}

#[derive(Debug, Clone)]
pub struct UdpTraffic {
    pub cluster: Arc<str>,
    pub max_sessions: usize,
    /// After how many datagrams of the backend a session ends.
    pub max_replies: Option<u32>,
}

impl Listener {
    /// The clusters that its traffic may go to, one for each route.
    pub fn clusters(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
        match &self.traffic {
            Traffic::Http(http) => Box::new(http.routes.iter().map(|route| &route.cluster)),
            Traffic::Tcp(tcp) => Box::new(tcp.routes.iter().map(|route| &route.cluster)),
            Traffic::Udp(udp) => Box::new(std::iter::once(&udp.cluster)),
        }
    }
}

/// `None`: disabled.
#[derive(Debug, Clone, Copy)]
pub struct ListenerTimeouts {
    pub head: Option<Duration>,
    pub idle: Option<Duration>,
    pub body_idle: Option<Duration>,
    pub write_stall: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub host: Option<HostMatch>,
    /// Without a trailing slash; empty for `/`, which matches every path.
    pub path_prefix: Option<String>,
    /// Without a trailing slash; empty for `/`.
    pub rewrite_prefix: Option<String>,
    pub cluster: Arc<str>,
}

#[derive(Debug, Clone)]
pub struct TcpRoute {
    /// The name that a client asks for in its TLS handshake.
    pub sni: Option<HostMatch>,
    /// A protocol that it offers there.
    pub alpn: Option<String>,
    pub cluster: Arc<str>,
}

/// Hosts are compared without regard to case; these are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostMatch {
    Exact(String),
    /// `.example.com` for `*.example.com`: any name with at least one more label.
    Suffix(String),
}

impl HostMatch {
    /// Whether a host without port is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Suffix(suffix) => {
                let cut = host.len().checked_sub(suffix.len()).filter(|cut| *cut > 0);
                cut.and_then(|cut| host.get(cut..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
        }
    }
}
