//! Termination: TLS with whoever connects.
//!
//! The files are looked at rather than watched, as `discovery/file.rs` does and for its reasons. A
//! change counts when the next look finds it still the same: whoever writes may not be done, and of
//! a pair the second half may be on its way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::ServerName;
use rustls::server::{
    Acceptor, ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::hello::Hello;
use super::{HANDSHAKE, Identity, TlsError, files, provider};
use crate::disk::{self, Seen};
use crate::net::dial::Stream;

/// Who we are, and whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// At least one. Who asks for a name gets the first that is valid for it, or else the first.
    pub identities: Vec<Identity>,
    /// Certificates that vouch for clients, who then have to show one; `None`: they are not asked.
    pub client_ca_file: Option<PathBuf>,
    /// Protocols to agree on, the most wanted first; none: the extension is not answered.
    pub alpn: Vec<Vec<u8>>,
}

/// A listener's side of TLS. It takes over what is new in its files when it is told to look.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    current: ArcSwap<ServerConfig>,
    looks: Mutex<Looks>,
}

/// What all files of a [`Settings`] looked like; `None` for one that could not be seen.
type Look = Vec<Option<Seen>>;

#[derive(Debug)]
struct Looks {
    /// Before what is in use was read.
    used: Look,
    last: Look,
}

impl Server {
    /// Reads the files.
    pub fn load(settings: Settings) -> Result<Self, TlsError> {
        // What changes from here on is seen by the next look.
        let look = settings.look();
        let current = ArcSwap::from(settings.read()?);
        let looks = Mutex::new(Looks { used: look.clone(), last: look });
        Ok(Self { settings, current, looks })
    }

    /// What the next connection is served with.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The stream as the client sees it once both sides know who the other is, and what the client
    /// asked for.
    pub async fn handshake(&self, stream: Stream) -> io::Result<(Stream, Hello)> {
        let config = self.current();
        let shaking = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let hello = Hello::of(&start.client_hello());
            let secured = start.into_stream(config).await?;
            Ok((Stream::Tls(Box::new(secured.into())), hello))
        };
        timeout(HANDSHAKE, shaking).await?
    }

    /// Looks at the files. True: they have changed, and what they hold is in use from here on. What
    /// is wrong with them is an error from the second look on that finds them so, and what was in
    /// use stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let look = self.settings.look();
        let settled = look == looks.last;
        looks.last.clone_from(&look);
        if look == looks.used || !settled {
            return Ok(false);
        }
        let read = self.settings.read();
        if self.settings.look() != look {
            return Ok(false);
        }
        self.current.store(read?);
        looks.used = look;
        Ok(true)
    }
}

impl Settings {
    fn look(&self) -> Look {
        let pairs = self.identities.iter().flat_map(Identity::files);
        let files = pairs.chain(self.client_ca_file.as_deref());
        files.map(|path: &Path| disk::look(path).ok()).collect()
    }

    /// Sessions are resumed: rustls gives tickets, and remembers 256 of version 1.2. The keys of
    /// tickets are made here, for these files and no others: what was given before is of no use, so
    /// that no client stays for whom only an authority of yesterday vouched, or one of another
    /// listener.
    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = provider();
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let believing = match &self.client_ca_file {
            Some(path) => {
                let roots = Arc::new(files::authorities(path)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let verifier = verifier.build().map_err(|e| TlsError::file(path, e.to_string()))?;
                versions.with_client_cert_verifier(verifier)
            }
            None => versions.with_no_client_auth(),
        };
        let load = |identity: &Identity| identity.load(&provider).map(Arc::new);
        let pairs = self.identities.iter().map(load).collect::<Result<_, _>>()?;
        let mut config = believing.with_cert_resolver(Arc::new(Pairs(pairs)));
        config.ticketer = Ticketer::new()?;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Arc::new(config))
    }
}

/// The pairs of one listener, in the order of its settings.
#[derive(Debug)]
struct Pairs(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let wanted = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |pair: &&Arc<CertifiedKey>| {
            wanted.as_ref().is_some_and(|name| is_valid_for(pair, name))
        };
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

fn is_valid_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
    certificate.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}
