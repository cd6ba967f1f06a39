//! The configuration file as people write it.
//!
//! Every type here mirrors a table of the file and holds text where the value needs more than
//! its shape to be judged: [`validate`](super::validate) turns it into what the sidecar uses.
//! The doc comments are the manual: they are the descriptions in `outrigger config schema`.
//! A required key is an `Option` all the same, so that a file without it can still be judged in
//! everything else.

mod cluster;
mod consul;
mod control;
mod health;
mod policies;
mod tls;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cluster::*;
pub use consul::*;
pub use control::*;
pub use health::*;
pub use policies::*;
pub use tls::*;

use super::units::{AddressText, DurationText, PathText, TimeoutText};

/// Configuration of one Outrigger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The HTTP address for operators, the command line and Prometheus.
    pub admin: Admin,
    /// The gRPC address for apps: what the SDK speaks to.
    pub control: Control,
    /// Threads and the times of start and stop.
    pub runtime: Runtime,
    /// Log lines, on stderr.
    pub log: Log,
    /// How names are resolved, for every cluster with a `dns` or `dns_srv` source.
    pub dns: Dns,
    /// Which addresses that were discovered may be used, whatever the source.
    pub discovery: AddressFilter,
    /// How Consul is asked, for every cluster with a `consul` source and for fleet-wide orders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<Consul>,
    /// How clients stay with their backends, for every cluster with cookies.
    pub affinity: AffinitySecret,
    /// Local addresses that the app sends its traffic to, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<String, Listener>,
    /// Named sets of interchangeable backends, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, Cluster>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address of the admin API. Off loopback only GET /livez, /readyz and /metrics answer.
    pub listen: AddressText,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Threads that carry traffic, 1..=64; by default two, or one on a machine with one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: Option<u16>,
    /// Directory for what outlives a restart, such as the affinity secret; made if it is missing.
    /// By default there is none and nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathText>,
    /// How long a stopping sidecar waits for requests in flight. Kubernetes kills at 30 s.
    pub shutdown_grace: DurationText,
    /// How long readiness waits for a first answer of discovery and probes, and how long
    /// backends that have not been probed yet get no traffic when there is nobody else.
    pub start_timeout: DurationText,
    /// Endpoints that `state_dir` remembers serve a start without discovery, unless they are older
    /// than this.
    pub max_stale: DurationText,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// Where a line is written for each request that was answered, and for each TCP connection and
    /// UDP session that has ended: `off`, `stdout` or the path of a file, which is appended to.
    pub access: AccessText,
}

/// `off`, `stdout` or a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessText(pub String);

impl Default for AccessText {
    fn default() -> Self {
        Self("off".into())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Addresses of the resolvers, `ip` or `ip:port`; by default those of /etc/resolv.conf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Domains that names without a final dot are also looked for in, `["svc.internal"]`; by default
    /// those of /etc/resolv.conf, or none where `nameservers` are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<Vec<String>>,
    /// Ask over TCP only: for servers that shorten large answers without saying so, such as
    /// Consul's.
    pub tcp: bool,
    /// How long a nameserver may take. A question is given up then, its repetition over TCP
    /// included, or after twice that where there are several nameservers.
    pub timeout: DurationText,
    /// Answers are asked again no earlier than this, at least 1 s, whatever their TTL.
    pub min_ttl: DurationText,
    /// Answers are asked again no later than this, whatever their TTL.
    pub max_ttl: DurationText,
}

/// Link-local, multicast, broadcast and unspecified addresses are refused, unless `allow` has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AddressFilter {
    /// Networks such as `10.0.0.0/8`; if there are any, only what is in one of them is used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Networks of which nothing is used, allowed or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AffinitySecret {
    /// File with the secret that signs cookies, the same on every instance: one line of at least
    /// 32 characters, a second one for a secret that still verifies. By default one is made in
    /// `runtime.state_dir`, or in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathText>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address that the app sends its traffic to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub listen: Option<AddressText>,
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where all traffic goes; or give `routes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Where traffic goes: the first route that matches wins. No match is a 404, and for `tcp` the end
    /// of the connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Connections served at a time; more wait in the backlog. By default 0.4 times the limit
    /// on open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Connections of one client address at a time; more are closed at once. By default there is no
    /// such bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_source: Option<u32>,
    /// `udp`: clients remembered at a time; the one that was silent for the longest makes room. By
    /// default 16384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_sessions: Option<u32>,
    /// `udp`: a session ends after so many datagrams of the backend, instead of by silence alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replies: Option<u32>,
    /// `http` and `tcp`: whether each connection begins with a header of the PROXY protocol, version 1
    /// or 2, that says who the client is.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Networks from which such a header is believed; whoever else connects is turned away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_cidrs: Vec<String>,
    /// TLS with whoever connects. Without this table there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// `http`: how long the app may take.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http,
    /// Bytes both ways.
    Tcp,
    /// Datagrams both ways.
    Udp,
}

impl Protocol {
    /// As people write it, in quotes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "\"http\"",
            Self::Tcp => "\"tcp\"",
            Self::Udp => "\"udp\"",
        }
    }
}

/// All conditions of a route must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `http`: host of the request without its port, `api.example.com` or `*.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `http`: whole leading segments of the path: `/api` matches /api and /api/x, not /apix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// `http`: what takes the place of `path_prefix` towards the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite_prefix: Option<String>,
    /// `tcp`: name that the client asks for in its TLS handshake, `db.example.com` or
    /// `*.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// `tcp`: protocol that the client offers in its TLS handshake, such as `postgresql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The cluster that gets the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub cluster: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// From the first byte of a request head to its last.
    pub head: TimeoutText,
    /// Between two requests of a connection.
    pub idle: TimeoutText,
    /// Longest silence of the app inside a request body.
    pub body_idle: TimeoutText,
    /// Longest time that the app takes none of an answer that is waiting for it.
    pub write_stall: TimeoutText,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: AddressText("127.0.0.1:9910".into()) }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            workers: None,
            state_dir: None,
            shutdown_grace: DurationText("25s".into()),
            start_timeout: DurationText("5s".into()),
            max_stale: DurationText("3d".into()),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            search: None,
            tcp: false,
            timeout: DurationText("2s".into()),
            min_ttl: DurationText("1s".into()),
            max_ttl: DurationText("60s".into()),
        }
    }
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            head: TimeoutText("10s".into()),
            idle: TimeoutText("60s".into()),
            body_idle: TimeoutText("30s".into()),
            write_stall: TimeoutText("30s".into()),
        }
    }
}
