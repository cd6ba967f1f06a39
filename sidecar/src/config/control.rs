//! The control API.

use std::path::PathBuf;

use super::ListenerTls;
use crate::net::Address;

/// Where it is served, and who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    pub listen: Address,
    /// Of the file of a unix socket.
    pub socket_mode: u32,
    /// Users who are listened to on a unix socket; empty: root and the one that this runs as.
    pub allow_uids: Vec<u32>,
    /// `None`: callers are not asked for a token.
    pub token_file: Option<PathBuf>,
    /// `None`: in the clear.
    pub tls: Option<ListenerTls>,
}

impl Control {
    /// Whether clients have to show a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some())
    }
}
