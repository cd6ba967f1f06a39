//! An authority, and the certificates that it signs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub fn generate() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        // No two authorities have one name.
        params.distinguished_name.push(DnType::CommonName, dir.path().display().to_string());
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn ca(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    /// Signs a certificate for this name: the files `NAME.pem`, `NAME.key`, and `NAME.both` as
    /// HAProxy wants them.
    pub fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // OpenSSL takes one that is called as its issuer is for one that vouches for itself.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &*self.issuer).unwrap();
        let (pem, key) = (certificate.pem(), key.serialize_pem());
        let file = |ending: &str, text: &str| {
            let path = self.path(&format!("{name}.{ending}"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        file("both", &format!("{pem}{key}"));
        (file("pem", &pem), file("key", &key))
    }

    pub fn both(&self, name: &str) -> String {
        self.path(&format!("{name}.both")).display().to_string()
    }
}
