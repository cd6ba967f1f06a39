//! TLS towards others: whom to believe.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// Why there is nobody to believe.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: cannot be read as certificates: {error}", path.display())]
    File { path: PathBuf, error: pem::Error },
    #[error("{}: has no certificate that could vouch for others", path.display())]
    Empty { path: PathBuf },
    #[error("the system's certificates cannot be read: {0}")]
    System(io::Error),
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// Believes servers for whom the certificates in this file vouch, or else the system's. Versions 1.2
/// and 1.3; names are verified.
pub fn client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let file = |error| TlsError::File { path: path.into(), error };
            let certificates = CertificateDer::pem_file_iter(path).map_err(file)?;
            let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(file)?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(TlsError::Empty { path: path.into() });
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            if let (true, Some(error)) = (system.certs.is_empty(), system.errors.first()) {
                return Err(TlsError::System(io::Error::other(error.to_string())));
            }
            roots.add_parsable_certificates(system.certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
