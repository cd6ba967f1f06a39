//! TLS as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::PathText;

/// Files are PEM, and read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTls {
    /// File with the certificate, followed by those that lead from it to an authority. Who asks for
    /// a name that no certificate is valid for, or for none, gets this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathText>,
    /// File with the key of `cert_file`; nobody but its owner may have access to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathText>,
    /// Further certificates, at most 63: who asks for a name gets the first that is valid for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// File with the certificates that vouch for clients, who then have to show one. By default
    /// they are not asked for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathText>,
    /// Protocols to agree on by ALPN, the most wanted first, `["http/1.1"]`; a client that offers
    /// only others is refused. By default there are none, and nobody is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// File with the certificate, followed by those that lead from it to an authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub cert_file: Option<PathText>,
    /// File with its key; nobody but its owner may have access to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub key_file: Option<PathText>,
}

/// An empty table is TLS with the system's authorities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterTls {
    /// File with the certificates, PEM, that vouch for backends; by default the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathText>,
    /// Name that backends are asked for and have to have a certificate of; by default it follows
    /// from the Host that they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// File with the certificate, PEM, that is shown to backends which ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathText>,
    /// File with the key of `cert_file`; nobody but its owner may have access to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathText>,
    /// Whether any certificate will do, whoever it is of: then whoever gets in between can read and
    /// change everything.
    pub insecure_skip_verify: bool,
    /// Protocols to offer by ALPN, the most wanted first; by default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
}
