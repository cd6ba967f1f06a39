//! The control API as people write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{ModeText, OptionalAddressText, PathText};

/// Off loopback callers have to show a token or a certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Address of the control API, or `off`.
    pub listen: OptionalAddressText,
    /// Mode of the file of a unix socket: who may connect.
    pub socket_mode: ModeText,
    /// Users, by their ids, who are listened to on a unix socket; by default root and the user that
    /// the sidecar runs as.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_uids: Vec<u32>,
    /// File with the tokens that callers have to show, at least 32 characters each, one a line,
    /// after its role if that is not `admin`: `read TOKEN`, `steer TOKEN`. Read again when it
    /// changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathText>,
    /// File with the certificate, PEM, followed by those that lead from it to an authority: then TLS
    /// is spoken. Read again when it changes, as are the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathText>,
    /// File with the key of `cert_file`; nobody but its owner may have access to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathText>,
    /// File with the certificates that vouch for clients, who then have to show one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathText>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            listen: OptionalAddressText("127.0.0.1:9911".into()),
            socket_mode: ModeText("0600".into()),
            allow_uids: Vec::new(),
            token_file: None,
            cert_file: None,
            key_file: None,
            client_ca_file: None,
        }
    }
}
