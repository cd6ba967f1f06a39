//! Origination: TLS towards others.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{Identity, TlsError, files, provider};

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
