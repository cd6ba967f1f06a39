//! What client and server make of each other.

use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, Error, HandshakeKind, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion,
};

use super::super::provider;
use super::server::Settings;
use super::*;

fn refused(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) => "name".into(),
        Error::InvalidCertificate(error) => format!("{error:?}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_name_gets_the_first_certificate_that_is_valid_for_it_and_others_get_the_first() {
    let ours = Authority::new();
    let a = ours.identity("a", &["a.example"]);
    let b = ours.identity("b", &["b.example", "127.0.0.1"]);
    let any = ours.identity("any", &["*.any.example"]);
    let of_any = ours.identity("of-any", &["x.any.example"]);
    let server = load(server_of(vec![a.clone(), b.clone(), any.clone(), of_any]));
    let client = client::Settings { insecure_skip_verify: true, ..Default::default() };
    let client = client.load().unwrap();
    for (name, expected) in [
        ("a.example", &a),
        ("b.example", &b),
        ("B.Example", &b),
        ("x.any.example", &any),
        ("any.example", &a),
        ("x.y.any.example", &a),
        ("c.example", &a),
        // Addresses are not asked for by name.
        ("127.0.0.1", &a),
    ] {
        let shown = shake(&client, &server, name).unwrap();
        let expected = [certificate(&expected.cert_file)];
        assert_eq!(shown.peer_certificates().unwrap(), expected, "{name}");
    }
}

#[test]
fn a_server_is_believed_for_its_authority_and_its_names() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let names = ["a.example", "*.any.example", "127.0.0.1"];
    let server = load(server_of(vec![ours.identity("a", &names)]));
    let (believes, doubts) = (ours.client().load().unwrap(), theirs.client().load().unwrap());
    for name in ["a.example", "x.any.example", "127.0.0.1"] {
        shake(&believes, &server, name).unwrap();
        assert_eq!(refused(&shake(&doubts, &server, name).unwrap_err()), "UnknownIssuer");
    }
    for name in ["b.example", "any.example", "x.y.any.example", "127.0.0.2"] {
        assert_eq!(refused(&shake(&believes, &server, name).unwrap_err()), "name", "{name}");
    }
}

/// A file of authorities may have several, as in the days of a change from one to another.
#[test]
fn any_authority_of_the_file_will_do() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = old.issuer.pem() + &new.issuer.pem();
    fs::write(old.file("ca.pem"), both).unwrap();
    let client = old.client().load().unwrap();
    for authority in [&old, &new] {
        shake(&client, &load(authority.server()), "a.example").unwrap();
    }
}

#[test]
fn without_verification_any_certificate_will_do_but_not_one_of_somebody_else() {
    let ours = Authority::new();
    let settings = client::Settings { insecure_skip_verify: true, ..Default::default() };
    let client = settings.load().unwrap();
    shake(&client, &load(ours.server()), "b.example").unwrap();

    let provider = provider();
    let of = |name: &str| ours.identity(name, &[]).load(&provider).unwrap();
    let (mine, other) = (of("mine"), of("other"));
    let stolen = Arc::new(CertifiedKey::new(other.cert, mine.key));
    for version in [&TLS12, &TLS13] {
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let server = server.with_protocol_versions(&[version]).unwrap();
        let stolen = Arc::new(SingleCertAndKey::from(Arc::clone(&stolen)));
        let server = Arc::new(server.with_no_client_auth().with_cert_resolver(stolen));
        let error = shake(&client, &server, "b.example").unwrap_err();
        assert_eq!(refused(&error), "BadSignature", "{version:?}");
    }
}

fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn the_servers_first_protocol_that_the_client_has_is_agreed_on() {
    let ours = Authority::new();
    let agreed = |client: &[&str], server: &[&str]| {
        let client = client::Settings { alpn: protocols(client), ..ours.client() };
        let server = Settings { alpn: protocols(server), ..ours.server() };
        let shaken = shake(&client.load().unwrap(), &load(server), "a.example");
        shaken.map(|client| client.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()))
    };
    assert_eq!(agreed(&["h2", "http/1.1"], &["http/1.1", "h2"]), Ok(Some("http/1.1".into())));
    assert_eq!(agreed(&["h2", "http/1.1"], &["http/1.1"]), Ok(Some("http/1.1".into())));
    assert_eq!(agreed(&[], &["h2"]), Ok(None));
    assert_eq!(agreed(&["h2"], &[]), Ok(None));
    assert_eq!(agreed(&["h2"], &["http/1.1"]), Err(Error::NoApplicationProtocol));
}

#[test]
fn a_client_has_to_show_a_certificate_of_the_right_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = load(Settings { client_ca_file: ours.ca_file(), ..ours.server() });
    let shown = |identity: Option<Identity>| {
        let client = client::Settings { identity, ..ours.client() };
        shake(&client.load().unwrap(), &server, "a.example").map(drop)
    };
    shown(Some(ours.identity("app", &[]))).unwrap();
    assert_eq!(shown(None), Err(Error::NoCertificatesPresented));
    let stranger = shown(Some(theirs.identity("app", &[]))).unwrap_err();
    assert_eq!(refused(&stranger), "UnknownIssuer");
}

/// A client that only speaks one version, and believes this authority.
fn old_client(of: &Authority, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(of.issuer.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider());
    let client = client.with_protocol_versions(&[version]).unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.resumption = Resumption::in_memory_sessions(8);
    Arc::new(client)
}

#[test]
fn the_newer_version_is_spoken_and_the_older_one_if_need_be() {
    let ours = Authority::new();
    let server = load(ours.server());
    let spoken = |client| shake(&client, &server, "a.example").unwrap().protocol_version().unwrap();
    assert_eq!(spoken(ours.client().load().unwrap()), ProtocolVersion::TLSv1_3);
    assert_eq!(spoken(old_client(&ours, &TLS12)), ProtocolVersion::TLSv1_2);
}

#[test]
fn sessions_are_resumed_at_the_same_server_and_at_no_other() {
    let ours = Authority::new();
    let (server, other) = (load(ours.server()), load(ours.server()));
    let kind = |client: &_, server: &_| {
        shake(client, server, "a.example").unwrap().handshake_kind().unwrap()
    };
    for client in
        [ours.client().load().unwrap(), old_client(&ours, &TLS13), old_client(&ours, &TLS12)]
    {
        assert_eq!(kind(&client, &server), HandshakeKind::Full);
        assert_eq!(kind(&client, &server), HandshakeKind::Resumed);
        assert_eq!(kind(&client, &other), HandshakeKind::Full);
    }
}

/// The name is part of what was verified.
#[test]
fn a_session_is_not_resumed_for_another_name() {
    let ours = Authority::new();
    let server = load(server_of(vec![ours.identity("both", &["a.example", "b.example"])]));
    let client = ours.client().load().unwrap();
    for name in ["a.example", "b.example"] {
        let shaken = shake(&client, &server, name).unwrap();
        assert_eq!(shaken.handshake_kind(), Some(HandshakeKind::Full), "{name}");
    }
}
