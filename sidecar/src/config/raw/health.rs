//! Active health checks as people write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::DurationText;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked: `tcp` connects, `http` sends a GET and judges the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub probe: Option<ProbeKind>,
    /// From the start of one probe to the start of the next, shortened by up to a tenth.
    #[serde(default = "ten_seconds")]
    pub interval: DurationText,
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
    /// `http`: the target of the request; by default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `http`: statuses that pass, `"200"` or `"200-299"`; by default 200-299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_status: Option<Vec<String>>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    Tcp,
    Http,
}
