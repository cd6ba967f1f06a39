//! Who calls, and what they may do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Request};
use tonic::Status;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::error;
use super::tokens::{Hash, Tokens};
use crate::config;
use crate::net::Address;
use crate::net::dial::Stream;
use crate::net::host::names_this_machine;

/// Of a name in a certificate so much is shown.
const NAME: usize = 64;

/// What a caller may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Ask.
    Read,
    /// Give orders, and take its own back.
    Steer,
    /// Take back those of others.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Read, Self::Steer, Self::Admin];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Steer => "steer",
            Self::Admin => "admin",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Whoever has made a call.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    shown: Arc<str>,
    account: Account,
    role: Role,
}

/// What the changes of a caller are counted under: those of one app together, however many
/// connections it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Account {
    User(u32),
    Certificate(Arc<str>),
    Token(Hash),
    Host(IpAddr),
    Unknown,
}

impl Caller {
    /// Who has made this call.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        let unknown = || error::unauthenticated("it is not known who calls");
        request.extensions().get().cloned().ok_or_else(unknown)
    }

    /// Who it is, for people: `127.0.0.1:4711`, `uid 1000` or `cert NAME`.
    pub(super) fn shown(&self) -> Arc<str> {
        Arc::clone(&self.shown)
    }

    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Refused if this is more than it may do.
    pub(super) fn needs(&self, role: Role) -> Result<(), Status> {
        if self.role >= role {
            return Ok(());
        }
        let (needed, own) = (role.name(), self.role.name());
        Err(error::denied(format!("this takes the role `{needed}`, and the caller has `{own}`")))
    }
}

/// The other side of a connection, as far as the connection tells.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    address: Option<SocketAddr>,
    user: Option<u32>,
    certificate: Option<Arc<str>>,
}

impl Peer {
    pub(super) fn of(stream: &Stream, address: Option<SocketAddr>) -> Self {
        let certificate = stream.peer_certificate().map(|der| name_in(der).into());
        Self { address, user: stream.peer_user(), certificate }
    }

    /// For people.
    pub(super) fn shown(&self) -> Arc<str> {
        match (&self.certificate, self.user, self.address) {
            (Some(name), ..) => format!("cert {name}").into(),
            (None, Some(user), _) => format!("uid {user}").into(),
            (None, None, Some(address)) => address.to_string().into(),
            (None, None, None) => "unknown".into(),
        }
    }

    fn account(&self) -> Account {
        match (&self.certificate, self.user, self.address) {
            (Some(name), ..) => Account::Certificate(Arc::clone(name)),
            (None, Some(user), _) => Account::User(user),
            (None, None, Some(address)) => Account::Host(address.ip()),
            (None, None, None) => Account::Unknown,
        }
    }
}

/// What is asked of callers.
#[derive(Debug)]
pub(super) struct Access {
    /// Who is listened to on a unix socket; `None` where nobody knows users.
    users: Option<Vec<u32>>,
    /// Whether whom requests are for has to be this machine, by name.
    names_itself: bool,
    tokens: Option<Arc<Tokens>>,
}

impl Access {
    pub(super) fn new(settings: &config::Control, tokens: Option<Arc<Tokens>>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let users = match &settings.listen {
            Address::Tcp(_) => None,
            Address::Unix(_) if settings.allow_uids.is_empty() => Some(vec![0, own]),
            Address::Unix(_) => Some(settings.allow_uids.clone()),
        };
        // No browser that was lured here speaks TLS with a certificate of ours, or shows one.
        let names_itself = users.is_none() && settings.listen.is_local() && settings.tls.is_none();
        Self { users, names_itself, tokens }
    }

    /// Whether this caller is spoken to at all.
    pub(super) fn admits<B>(&self, peer: &Peer, request: &Request<B>) -> Result<(), Status> {
        if let Some(users) = &self.users
            && !peer.user.is_some_and(|user| users.contains(&user))
        {
            return Err(error::denied(format!("{} may not call here", peer.shown())));
        }
        if self.names_itself && !is_for_this_machine(request) {
            return Err(error::denied("the authority must be localhost or a loopback address"));
        }
        Ok(())
    }

    /// Who calls. A token decides; without one a certificate does, and where neither is asked for,
    /// everybody on this machine is the same.
    pub(super) fn identify(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Status> {
        let (account, role) = match (&self.tokens, bearer(headers)) {
            (Some(tokens), Some(token)) => {
                let known = tokens.role(token);
                let unknown = || error::unauthenticated("the token is none of those in token_file");
                let (token, role) = known.ok_or_else(unknown)?;
                (Account::Token(token), role)
            }
            (Some(_), None) if peer.certificate.is_none() => {
                let wanted = "this needs a token, as `authorization: Bearer TOKEN`";
                return Err(error::unauthenticated(wanted));
            }
            _ => (peer.account(), Role::Steer),
        };
        Ok(Caller { shown: peer.shown(), account, role })
    }
}

/// All that a request says of whom it is for has to say the same.
fn is_for_this_machine<B>(request: &Request<B>) -> bool {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let hosts = request.headers().get_all(HOST).iter();
    let mut named = hosts.map(|host| host.to_str().unwrap_or_default()).chain(authority).peekable();
    named.peek().is_some() && named.all(names_this_machine)
}

/// The token of a request; what is not understood is one that nobody has.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len()).unwrap_or((value, b""));
    Some(if scheme.eq_ignore_ascii_case(b"bearer ") { token.trim_ascii() } else { b"" })
}

/// What a certificate calls whom it is for.
fn name_in(der: &[u8]) -> String {
    let Ok((_, certificate)) = parse_x509_certificate(der) else { return "?".into() };
    let common = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternatives.iter().flat_map(|names| &names.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some(*name),
        _ => None,
    });
    let name = common.into_iter().chain(alternative).find(|name| !name.is_empty());
    name.unwrap_or("?").chars().filter(char::is_ascii_graphic).take(NAME).collect()
}

/// Some app of this user, for tests.
#[cfg(test)]
pub(super) fn caller(user: u32) -> Caller {
    let (shown, account) = (format!("uid {user}").into(), Account::User(user));
    Caller { shown, account, role: Role::Steer }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn settings(listen: &str, allow_uids: &[u32]) -> config::Control {
        config::Control {
            listen: listen.parse().unwrap(),
            socket_mode: 0o600,
            allow_uids: allow_uids.into(),
            token_file: None,
            tls: None,
        }
    }

    fn peer(user: Option<u32>) -> Peer {
        let address = user.is_none().then(|| ([127, 0, 0, 1], 4711).into());
        Peer { address, user, certificate: None }
    }

    fn tokens(role: &str) -> Option<Arc<Tokens>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, format!("{role} {TOKEN}")).unwrap();
        Some(Arc::new(Tokens::load(&file).unwrap()))
    }

    fn request(uri: &str, hosts: &[&'static str]) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_static(host));
        }
        request
    }

    #[test]
    fn on_loopback_requests_are_for_this_machine_by_all_that_they_say() {
        let access = Access::new(&settings("127.0.0.1:9911", &[]), None);
        let admits =
            |uri, hosts: &[&'static str]| access.admits(&peer(None), &request(uri, hosts)).is_ok();
        for uri in ["http://localhost/s/m", "http://127.0.0.1:9911/s/m", "http://[::1]:1/s/m"] {
            assert!(admits(uri, &[]), "{uri}");
        }
        assert!(admits("/s/m", &["localhost:9911"]));
        assert!(!admits("/s/m", &[]));
        for evil in ["http://evil.example/s/m", "http://10.0.0.1:9911/s/m"] {
            assert!(!admits(evil, &[]) && !admits(evil, &["localhost"]), "{evil}");
        }
        assert!(!admits("http://localhost/s/m", &["evil.example"]));
        assert!(!admits("http://localhost/s/m", &["localhost", "evil.example"]));
    }

    #[test]
    fn on_a_unix_socket_users_are_known_and_names_mean_nothing() {
        let own = rustix::process::geteuid().as_raw();
        let admits = |allowed: &[u32], user| {
            let access = Access::new(&settings("unix:/control.sock", allowed), None);
            access.admits(&peer(user), &request("http://whatever/s/m", &[])).is_ok()
        };
        assert!(admits(&[], Some(own)) && admits(&[], Some(0)));
        assert!(!admits(&[], Some(own + 54_321)));
        assert!(admits(&[1000, 1001], Some(1001)));
        assert!(!admits(&[1000, 1001], Some(1002)) && !admits(&[1000, 1001], Some(0)));
        assert!(!admits(&[], None), "nobody is known");
    }

    #[test]
    fn a_token_has_to_be_right_where_one_is_asked_for() {
        let said = |tokens: Option<Arc<Tokens>>, authorization: Option<&'static str>| {
            let access = Access::new(&settings("127.0.0.1:9911", &[]), tokens);
            let mut headers = HeaderMap::new();
            if let Some(value) = authorization {
                headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            }
            access.identify(&peer(None), &headers).map(|caller| caller.role)
        };
        let with = "Bearer 0123456789abcdef0123456789abcdef";
        assert_eq!(said(None, None).unwrap(), Role::Steer);
        assert_eq!(said(None, Some("Bearer whatever")).unwrap(), Role::Steer);
        assert_eq!(said(tokens("read"), Some(with)).unwrap(), Role::Read);
        assert_eq!(
            said(tokens("admin"), Some("bearer  0123456789abcdef0123456789abcdef")).unwrap(),
            Role::Admin
        );
        for wrong in
            [None, Some(""), Some("Bearer "), Some("Basic x"), Some(TOKEN), Some("Bearer 01")]
        {
            let code = said(tokens("read"), wrong).unwrap_err().code();
            assert_eq!(code, tonic::Code::Unauthenticated, "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_is_as_good_as_a_token_that_steers() {
        let access = Access::new(&settings("127.0.0.1:9911", &[]), tokens("admin"));
        let peer = Peer { certificate: Some("app".into()), ..peer(None) };
        let caller = access.identify(&peer, &HeaderMap::new()).unwrap();
        assert_eq!((&*caller.shown(), caller.role), ("cert app", Role::Steer));
        assert!(caller.needs(Role::Steer).is_ok());
        assert_eq!(caller.needs(Role::Admin).unwrap_err().code(), tonic::Code::PermissionDenied);
    }

    #[test]
    fn a_certificate_is_called_what_its_subject_or_else_what_an_alternative_says() {
        let name = |common: Option<&str>, alternatives: &[&str]| {
            let alternatives: Vec<_> = alternatives.iter().map(|name| (*name).into()).collect();
            let mut parameters = rcgen::CertificateParams::new(alternatives).unwrap();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            if let Some(common) = common {
                parameters.distinguished_name.push(rcgen::DnType::CommonName, common);
            }
            let key = rcgen::KeyPair::generate().unwrap();
            name_in(parameters.self_signed(&key).unwrap().der())
        };
        assert_eq!(name(Some("app"), &["app.internal"]), "app");
        assert_eq!(name(None, &["app.internal"]), "app.internal");
        assert_eq!(name(Some("a\u{1b}[31m b"), &[]), "a[31mb");
        assert_eq!(name(None, &[]), "?");
        assert_eq!(name_in(b"no certificate"), "?");
    }
}
