//! Who we are and whom we believe, over TLS.

use rustls::pki_types::ServerName;

use crate::net::tls::client;
pub use crate::net::tls::server::Settings as ListenerTls;

/// How backends are spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// The name that is sent to every backend and that its certificate has to be valid for; `None`:
    /// it follows from the Host.
    pub server_name: Option<ServerName<'static>>,
    pub client: client::Settings,
}
