//! Active health checks as people write them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::config::units::{ACCEPTS, DurationText};

/// Which keys may be given depends on `probe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked: `tcp` connects, `udp` sends a datagram, `http` sends a request and judges
    /// the answer, `grpc` asks the standard health service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub probe: Option<ProbeKind>,
    /// From the start of one probe to the start of the next, shortened by up to a tenth.
    #[serde(default = "ten_seconds")]
    pub interval: DurationText,
    /// The interval while a backend is unhealthy or pending; by default as `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_unhealthy: Option<DurationText>,
    /// How long one probe may take.
    #[serde(default = "two_seconds")]
    pub timeout: DurationText,
    /// Passes in a row that make an unhealthy backend healthy, 1..=100.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub rise: u16,
    /// Failures in a row that make a healthy backend unhealthy, 1..=100.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub fall: u16,
    /// Whether a healthy backend is left alone that has answered traffic with success since the
    /// last interval.
    #[serde(default)]
    pub skip_when_busy: bool,
    /// The port that is asked; by default the one that traffic goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// `http` and `grpc`: the Host that is sent; by default as the cluster's `host` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `grpc`: the service that is asked about; by default the server as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `http`: the method of the request; by default GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `http`: the target of the request; by default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `http`: statuses that pass, `"200"` or `"200-299"`; by default 200-299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<Vec<String>>,
    /// `http`: a regular expression that the body must match somewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<String>,
    /// `udp`: the datagram, as text or `"hex:…"`; by default an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// `udp`: what the answer must begin with, as text or `"hex:…"`; by default silence passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// `http`: fields of the request beside the usual ones. `outrigger config show` masks them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", serialize_with = "masked")]
    pub headers: BTreeMap<String, String>,
    /// `http`: what the JSON of the body must hold, by JSON pointer; all must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_json: Option<BTreeMap<String, JsonExpectation>>,
}

fn ten_seconds() -> DurationText {
    DurationText("10s".into())
}

fn two_seconds() -> DurationText {
    DurationText("2s".into())
}

fn two() -> u16 {
    2
}

fn three() -> u16 {
    3
}

/// Any of them may be a credential.
fn masked<S: Serializer>(map: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.keys().map(|name| (name, "***")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    Tcp,
    Udp,
    Http,
    Grpc,
}

impl ProbeKind {
    /// As the file has it.
    pub(in crate::config) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// A value, `"~regex"`, or a table with `min`, `max` or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonExpectation(pub Value);

impl JsonExpectation {
    pub(in crate::config) const ACCEPTS: &str =
        "text, a number, true or false, \"~regex\", or a table with numbers `min`, `max` or both";
}

impl JsonSchema for JsonExpectation {
    fn schema_name() -> Cow<'static, str> {
        "JsonExpectation".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number", "boolean", "object"],
            ACCEPTS: Self::ACCEPTS,
        })
    }
}
