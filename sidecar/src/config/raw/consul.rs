//! Consul as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{DurationText, PathText};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Consul {
    /// The agent's HTTP address, `http://127.0.0.1:8500` or `https://…`.
    pub address: String,
    /// File with the ACL token, read again when it changes. Over plain HTTP it is only sent to
    /// this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathText>,
    /// By default the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// For servers that have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// File with the certificates, PEM, that vouch for an `https` address; by default the
    /// system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathText>,
    /// Whether any server may answer, and not only the leader: answers may then be a little
    /// behind, and go on without a leader.
    pub stale: bool,
    /// How long a question waits for a change, at most 10 m.
    pub wait: DurationText,
    /// Where in the key-value store orders for the whole fleet are, as `PREFIX CLUSTER/BACKEND`;
    /// empty: they are not looked for.
    pub kv_prefix: String,
}

impl Default for Consul {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".into(),
            token_file: None,
            datacenter: None,
            namespace: None,
            ca_file: None,
            stale: false,
            wait: DurationText("5m".into()),
            kv_prefix: "outrigger/".into(),
        }
    }
}
