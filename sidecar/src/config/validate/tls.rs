//! TLS: whether keys that belong together are there together. What is in the files is not judged
//! here.

use rustls::pki_types::ServerName;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw;
use crate::config::units::PathText;
use crate::config::{ClusterTls, ListenerTls};
use crate::net::tls::{Identity, client};

/// Certificates of one listener: each new connection may look at all of them.
const MAX_CERTIFICATES: usize = 64;
/// Protocols to agree on: more than there are.
const MAX_PROTOCOLS: usize = 16;

impl Judge {
    /// The outer `None` is an error, the inner one means that there is no TLS.
    pub(super) fn listener_tls(
        &mut self,
        raw: Option<&raw::ListenerTls>,
        path: &KeyPath,
    ) -> Option<Option<ListenerTls>> {
        let Some(raw) = raw else { return Some(None) };
        let first = self.identity(raw.cert_file.as_ref(), raw.key_file.as_ref(), path);
        let more = raw.certificates.iter().enumerate().map(|(i, pair)| {
            let path = path.key("certificates").index(i);
            self.identity(pair.cert_file.as_ref(), pair.key_file.as_ref(), &path)
        });
        let more: Vec<_> = more.collect();
        let client_ca_file = self.path(raw.client_ca_file.as_ref(), path.key("client_ca_file"));
        let alpn = self.alpn(&raw.alpn, &path.key("alpn"));
        let identities: Option<Vec<_>> = std::iter::once(first).chain(more).collect();
        let identities: Vec<_> = identities?.into_iter().flatten().collect();
        if identities.is_empty() {
            return self.fault(path.clone(), "needs `cert_file` and `key_file`");
        }
        if identities.len() > MAX_CERTIFICATES {
            let message = format!(
                "there are {} certificates; accepted: at most {MAX_CERTIFICATES}",
                identities.len()
            );
            return self.fault(path.key("certificates"), message);
        }
        Some(Some(ListenerTls { identities, client_ca_file, alpn: alpn? }))
    }

    /// As [`Self::listener_tls`].
    pub(super) fn cluster_tls(
        &mut self,
        raw: Option<&raw::ClusterTls>,
        path: &KeyPath,
    ) -> Option<Option<ClusterTls>> {
        let Some(raw) = raw else { return Some(None) };
        let ca_file = self.path(raw.ca_file.as_ref(), path.key("ca_file"));
        let server_name = match &raw.server_name {
            Some(name) => self.server_name(name, path.key("server_name")).map(Some),
            None => Some(None),
        };
        let identity = self.identity(raw.cert_file.as_ref(), raw.key_file.as_ref(), path);
        let alpn = self.alpn(&raw.alpn, &path.key("alpn"));
        let insecure_skip_verify = raw.insecure_skip_verify;
        let (identity, alpn) = (identity?, alpn?);
        let client = client::Settings { ca_file, identity, insecure_skip_verify, alpn };
        Some(Some(ClusterTls { server_name: server_name?, client }))
    }

    /// A certificate and its key, or neither.
    pub(super) fn identity(
        &mut self,
        cert_file: Option<&PathText>,
        key_file: Option<&PathText>,
        path: &KeyPath,
    ) -> Option<Option<Identity>> {
        match (cert_file, key_file) {
            (None, None) => Some(None),
            (Some(_), None) => self.fault(path.key("key_file"), "is missing beside `cert_file`"),
            (None, Some(_)) => self.fault(path.key("cert_file"), "is missing beside `key_file`"),
            (Some(cert), Some(key)) => {
                let cert_file = self.path(Some(cert), path.key("cert_file"));
                let key_file = self.path(Some(key), path.key("key_file"));
                Some(Some(Identity { cert_file: cert_file?, key_file: key_file? }))
            }
        }
    }

    fn server_name(&mut self, text: &str, path: KeyPath) -> Option<ServerName<'static>> {
        let accepted = "a DNS name or an IP address, without a port";
        ServerName::try_from(text.to_owned()).ok().or_else(|| self.refuse(path, text, accepted))
    }

    fn alpn(&mut self, names: &[String], path: &KeyPath) -> Option<Vec<Vec<u8>>> {
        if names.len() > MAX_PROTOCOLS {
            let message =
                format!("has {} protocols; accepted: at most {MAX_PROTOCOLS}", names.len());
            return self.fault(path.clone(), message);
        }
        let judged: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(i, name)| match name.len() {
                1..=255 => Some(name.clone().into_bytes()),
                _ => self.refuse(path.index(i), name, "a protocol's name of 1 to 255 bytes"),
            })
            .collect();
        judged.into_iter().collect()
    }
}
