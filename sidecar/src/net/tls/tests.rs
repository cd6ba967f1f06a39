//! A world of authorities, certificates and handshakes without sockets.

mod files;
mod handshakes;
mod reload;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::SideData;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::{Identity, client, server};

/// Somebody who vouches for others, and a place for what is made.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        // No two authorities have one name.
        params.distinguished_name.push(DnType::CommonName, dir.path().display().to_string());
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca_file(&self) -> Option<PathBuf> {
        Some(self.file("ca.pem"))
    }

    /// Makes `NAME.pem`, valid for these names, and `NAME.key`.
    fn identity(&self, name: &str, of: &[&str]) -> Identity {
        let (cert, key) = self.pair(of);
        let cert_file = self.file(&format!("{name}.pem"));
        let key_file = self.file(&format!("{name}.key"));
        fs::write(&cert_file, cert).unwrap();
        write_key(&key_file, &key);
        Identity { cert_file, key_file }
    }

    /// A certificate for these names and its key, in PEM.
    fn pair(&self, of: &[&str]) -> (String, String) {
        let names: Vec<_> = of.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer);
        (certificate.unwrap().pem(), key.serialize_pem())
    }

    /// A server with one certificate, for `a.example`.
    fn server(&self) -> server::Settings {
        server_of(vec![self.identity("a", &["a.example"])])
    }

    /// A client that believes this authority.
    fn client(&self) -> client::Settings {
        client::Settings { ca_file: self.ca_file(), ..Default::default() }
    }
}

fn server_of(identities: Vec<Identity>) -> server::Settings {
    server::Settings { identities, client_ca_file: None, alpn: Vec::new() }
}

fn write_key(path: &Path, key: &str) {
    fs::write(path, key).unwrap();
    set_mode(path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn load(settings: server::Settings) -> Arc<ServerConfig> {
    server::Server::load(settings).unwrap().current()
}

/// A handshake of the two, to the end.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<ClientConnection, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.wants_write() || server.wants_write() {
        carry(&mut *client, &mut *server)?;
        carry(&mut *server, &mut *client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(client)
}

/// Takes what one has to say to the other.
fn carry<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), rustls::Error> {
    let mut said = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut said).unwrap();
    }
    let mut unheard = said.as_slice();
    while !unheard.is_empty() {
        to.read_tls(&mut unheard).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// The first certificate of this file.
fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}
