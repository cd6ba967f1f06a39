//! Certificates and keys, from PEM files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::TlsError;
use crate::disk;

/// A key of 16,384 bits takes 12 KiB.
const MAX_KEY: u64 = 64 << 10;
/// All authorities that browsers believe take a quarter of it.
const MAX_CERTIFICATES: u64 = 1 << 20;

/// Where a certificate is, with those that lead from it to an authority, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Identity {
    /// Reads the pair. One whose halves do not belong together is an error.
    pub(super) fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.cert_file)?;
        let key = provider.key_provider.load_private_key(private_key(&self.key_file)?);
        let key = key.map_err(|e| TlsError::file(&self.key_file, format!("is of no use: {e}")))?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            Ok(()) => Ok(pair),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let reason = format!("is not the key of {}", self.cert_file.display());
                Err(TlsError::file(&self.key_file, reason))
            }
            Err(e) => Err(TlsError::file(&self.cert_file, format!("is of no use: {e}"))),
        }
    }

    pub(super) fn files(&self) -> [&Path; 2] {
        [&self.cert_file, &self.key_file]
    }
}

/// Those who are believed when they vouch for others.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates(path)?) {
        (0, _) => Err(TlsError::file(path, "has no certificate that could vouch for others")),
        _ => Ok(roots),
    }
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = disk::read(path, MAX_CERTIFICATES).map_err(|e| unreadable(path, &e))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(TlsError::file(path, "has no certificate in PEM")),
        Ok(some) => Ok(some),
        Err(e) => Err(malformed(path, &e)),
    }
}

/// Whoever has the key can pose as us: it is for the sidecar alone.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (file, facts) = disk::open(path).map_err(|e| unreadable(path, &e))?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let reason =
            format!("is open to others than its owner (mode {mode:04o}); accepted: 0600 or 0400");
        return Err(TlsError::file(path, reason));
    }
    let text = disk::read_from(file, MAX_KEY).map_err(|e| unreadable(path, &e))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| match e {
        pem::Error::NoItemsFound => {
            let accepted = "one in PEM, as PKCS #8, PKCS #1 or SEC1, not encrypted";
            TlsError::file(path, format!("has no private key; accepted: {accepted}"))
        }
        e => malformed(path, &e),
    })
}

fn unreadable(path: &Path, error: &disk::Unreadable) -> TlsError {
    TlsError::file(path, format!("cannot be read: {error}"))
}

/// What the parser says of its own has bytes of the file, as numbers.
fn malformed(path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end".into(),
        pem::Error::IllegalSectionStart { .. } => "a section has a malformed first line".into(),
        other => other.to_string(),
    };
    TlsError::file(path, format!("is not PEM: {reason}"))
}
