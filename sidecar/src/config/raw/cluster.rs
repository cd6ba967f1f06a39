//! Clusters as people write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Affinity, ClusterTls, Drain, Health, Limits, Outlier, Retry, SlowStart};
use crate::balancer::Policy;
use crate::config::units::{AddressText, PathText, PercentText, TimeoutText};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How a backend is picked; all honour weights.
    #[serde(default)]
    pub policy: Policy,
    /// Host sent to the backend: `auto` (kept, unless it names the listener itself, then the
    /// target's name), `preserve`, `target`, or a literal. Probes use it too.
    #[serde(default = "auto")]
    pub host: String,
    /// When less than this share of a tier is eligible, its ejected backends are used again. With
    /// `0%` nobody gets traffic while every backend fails its probes; otherwise the failing ones
    /// do.
    #[serde(default = "half")]
    pub panic_threshold: PercentText,
    /// Whether a tier shares its traffic with the next when less than five sevenths of it are
    /// eligible; by default the lowest one with anybody eligible takes all.
    #[serde(default)]
    pub tier_spill: bool,
    /// One update that takes more than half of three or more backends away, or the last, is not
    /// believed at once: they stay for so long while they pass their checks. `disabled`: it is.
    #[serde(default = "minute")]
    pub removal_hold: TimeoutText,
    /// Where the endpoints come from: one source, or a list of them of which the first that has an
    /// answer is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub discovery: Option<Discoveries>,
    /// Active health checks. Without this table there are none and backends start ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How long backends may take.
    #[serde(default)]
    pub timeouts: ClusterTimeouts,
    /// When a request is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// When real traffic takes a backend out for a while.
    #[serde(default)]
    pub outlier: Outlier,
    /// How a backend is left.
    #[serde(default)]
    pub drain: Drain,
    /// What keeps a client at one backend.
    #[serde(default)]
    pub affinity: Affinity,
    /// How much work the cluster takes at a time. Without these keys there is no bound.
    #[serde(default)]
    pub limits: Limits,
    /// `tcp` listeners: the version of the PROXY protocol by which a backend is told who the
    /// client is. Its probes tell it that they are of nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How backends that come late, or back, get their share.
    #[serde(default)]
    pub slow_start: SlowStart,
    /// TLS towards the backends, whose certificates are verified. Without this table there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClusterTls>,
}

fn auto() -> String {
    "auto".into()
}

fn half() -> PercentText {
    PercentText("50%".into())
}

fn minute() -> TimeoutText {
    TimeoutText("60s".into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary, with room for more than addresses.
    V2,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Discoveries {
    One(Box<Discovery>),
    /// The first that has an answer is used.
    Several(Vec<Discovery>),
}

/// Which keys may be given depends on `source`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// Kind of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub source: Option<SourceKind>,
    /// `dns` and `dns_srv`: the name to resolve, taken as fully qualified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `dns`: the port of every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// `static`: the endpoints themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<StaticEndpoint>>,
    /// `file`: a JSON, YAML or TOML file, by its ending, that holds the list of a `static`
    /// source, alone or under `endpoints`; it is read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathText>,
    /// `consul`: the service; or give `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `consul`: the name or id of a prepared query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `consul`: tags that an instance must have, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// `consul`: whether instances with warnings are left out; critical ones always are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passing_only: Option<bool>,
    /// `consul`: instead of `consul.datacenter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// `consul`: instead of `consul.namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `consul`: an expression in Consul's own language that instances must fulfil.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// `consul`: the meta key that says the tier of an instance, or else a tag `KEY=N`; by default
    /// `outrigger-priority`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    Static,
    File,
    Dns,
    DnsSrv,
    Consul,
}

/// What the file of a `file` source holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointsFile {
    pub endpoints: Vec<StaticEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticEndpoint {
    /// Address of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub address: Option<AddressText>,
    /// Share of the traffic of its tier, 0..=65535; 0 beside others: last resort.
    #[serde(default = "one")]
    pub weight: u16,
    /// Tier, 0..=65535; the lowest with an eligible backend takes all traffic.
    #[serde(default)]
    pub priority: u16,
}

fn one() -> u16 {
    1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterTimeouts {
    /// To open a connection to a backend.
    pub connect: TimeoutText,
    /// Silence allowed between a request and the head of its answer.
    pub response: TimeoutText,
    /// Longest silence inside the body of an answer.
    pub stream_idle: TimeoutText,
    /// Longest silence of a tunnel, after a switch of protocols, or of a TCP connection, by default
    /// `1h`; and of a UDP session, by default `60s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<TimeoutText>,
    /// Longest silence of a TCP connection of which one side has ended.
    pub half_closed: TimeoutText,
    /// When a TCP connection is closed so that its client picks anew; each somewhat earlier, so that not
    /// all come at once.
    pub max_age: TimeoutText,
}

impl Default for ClusterTimeouts {
    fn default() -> Self {
        Self {
            connect: TimeoutText("1s".into()),
            response: TimeoutText("60s".into()),
            stream_idle: TimeoutText("5m".into()),
            idle: None,
            half_closed: TimeoutText("5m".into()),
            max_age: TimeoutText("disabled".into()),
        }
    }
}
