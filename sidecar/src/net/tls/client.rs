//! Origination: TLS towards others.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{HANDSHAKE, Identity, TlsError, files, provider};
use crate::net::dial::Stream;

/// Whom to believe, and who we are to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Certificates that vouch for servers; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// What is shown to servers that ask.
    pub identity: Option<Identity>,
    /// Whether any certificate will do, whoever it is of: then `ca_file` is of no use.
    pub insecure_skip_verify: bool,
    /// Protocols to offer, the most wanted first; none: the extension is left out.
    pub alpn: Vec<Vec<u8>>,
}

/// Speaks TLS to servers.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// The name of all of them; `None`: each has its own.
    name: Option<ServerName<'static>>,
}

impl Client {
    pub fn new(config: Arc<ClientConfig>, name: Option<ServerName<'static>>) -> Self {
        Self { config, name }
    }

    /// The stream as the server sees it once both sides know who the other is. `host` is the server's
    /// own name, with or without port.
    pub async fn handshake(&self, stream: Stream, host: &str) -> io::Result<Stream> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name_of(host)?,
        };
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let secured = timeout(HANDSHAKE, connector.connect(name, stream)).await??;
        Ok(Stream::Tls(Box::new(secured.into())))
    }
}

/// The name in `host`, `name`, `name:port`, `1.2.3.4:port` or `[::1]:port`.
fn name_of(host: &str) -> io::Result<ServerName<'static>> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let unfit = || format!("no certificate can be for {name:?}; server_name says whose it is");
    ServerName::try_from(name.to_owned())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, unfit()))
}

impl Settings {
    /// Reads the files. The name that a connection is opened with is sent (SNI) and verified.
    ///
    /// Sessions are resumed: rustls keeps those of the 256 names last used, up to 8 tickets each.
    /// They are of this value alone, so that nobody is believed for what another cluster verified.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider();
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let believing = if self.insecure_skip_verify {
            let anybody = Arc::new(Anybody(Arc::clone(&provider)));
            versions.dangerous().with_custom_certificate_verifier(anybody)
        } else {
            versions.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.identity {
            Some(identity) => {
                let pair = SingleCertAndKey::from(identity.load(&provider)?);
                believing.with_client_cert_resolver(Arc::new(pair))
            }
            None => believing.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        match &self.ca_file {
            Some(path) => files::authorities(path),
            None => system_roots(),
        }
    }
}

/// What the system believes, but for certificates that cannot be parsed: some systems have a few.
fn system_roots() -> Result<RootCertStore, TlsError> {
    let system = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    match (roots.add_parsable_certificates(system.certs), system.errors.first()) {
        ((0, _), Some(error)) => Err(TlsError::System(error.to_string())),
        ((0, _), None) => Err(TlsError::System("there are none".into())),
        _ => Ok(roots),
    }
}

/// Believes everybody. That the peer has the key of the certificate that it shows is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
