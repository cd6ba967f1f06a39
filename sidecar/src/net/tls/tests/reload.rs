//! Files that change under a server.

use std::os::unix::fs::symlink;

use super::server::{Server, Settings};
use super::*;

/// What the server shows to who asks for a name.
fn shown(server: &Server) -> CertificateDer<'static> {
    let client = client::Settings { insecure_skip_verify: true, ..Default::default() };
    let shaken = shake(&client.load().unwrap(), &server.current(), "a.example").unwrap();
    shaken.peer_certificates().unwrap()[0].clone()
}

/// The looks that come after a change: it has to settle.
fn looks<const N: usize>(server: &Server) -> [Result<bool, String>; N] {
    std::array::from_fn(|_| server.reload().map_err(|e| e.to_string()))
}

fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    write_key(&draft, text);
    fs::rename(&draft, path).unwrap();
}

#[test]
fn a_new_pair_is_used_whether_written_in_place_or_renamed() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    let server = Server::load(server_of(vec![pair.clone()])).unwrap();
    assert_eq!(looks(&server), [Ok(false), Ok(false)]);
    for write in [write_key, replace] {
        let before = shown(&server);
        let (cert, key) = ours.pair(&["a.example"]);
        write(&pair.cert_file, &cert);
        write(&pair.key_file, &key);
        assert_eq!(looks(&server), [Ok(false), Ok(true), Ok(false)]);
        assert_eq!(shown(&server), certificate(&pair.cert_file));
        assert_ne!(shown(&server), before);
    }
}

/// As Kubernetes does: the files are links through `..data`, which is turned to another folder.
#[test]
fn a_link_above_the_files_is_turned() {
    let ours = Authority::new();
    let dir = ours.dir.path();
    for version in ["1", "2"] {
        fs::create_dir(dir.join(version)).unwrap();
        let (cert, key) = ours.pair(&["a.example"]);
        fs::write(dir.join(version).join("tls.crt"), cert).unwrap();
        write_key(&dir.join(version).join("tls.key"), &key);
    }
    symlink("1", dir.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), dir.join(name)).unwrap();
    }
    let pair = Identity { cert_file: dir.join("tls.crt"), key_file: dir.join("tls.key") };
    let server = Server::load(server_of(vec![pair])).unwrap();
    assert_eq!(shown(&server), certificate(&dir.join("1/tls.crt")));
    symlink("2", dir.join("..draft")).unwrap();
    fs::rename(dir.join("..draft"), dir.join("..data")).unwrap();
    assert_eq!(looks(&server), [Ok(false), Ok(true), Ok(false)]);
    assert_eq!(shown(&server), certificate(&dir.join("2/tls.crt")));
}

#[test]
fn what_is_wrong_keeps_the_old_pair_and_is_said_until_it_is_mended() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    let (cert, key) = (pair.cert_file.clone(), pair.key_file.clone());
    let server = Server::load(server_of(vec![pair])).unwrap();
    let before = shown(&server);
    let wrongs: [(&dyn Fn(), &str); 4] = [
        (&|| fs::write(&cert, "nothing").unwrap(), "a.pem: has no certificate in PEM"),
        (&|| fs::remove_file(&cert).unwrap(), "a.pem: cannot be read: No such file"),
        (&|| set_mode(&key, 0o644), "a.key: is open to others than its owner (mode 0644)"),
        (&|| fs::write(&key, "nothing").unwrap(), "a.key: has no private key"),
    ];
    for (harm, expected) in wrongs {
        let (good_cert, good_key) = ours.pair(&["a.example"]);
        harm();
        let [unsettled, first, again] = looks(&server);
        assert_eq!(unsettled, Ok(false));
        assert!(first.as_ref().is_err_and(|said| said.contains(expected)), "{first:?}");
        assert_eq!(again, first);
        write_key(&cert, &good_cert);
        write_key(&key, &good_key);
        assert_eq!(looks(&server), [Ok(false), Ok(true), Ok(false)], "after {expected}");
    }
    assert_ne!(shown(&server), before);
}

#[test]
fn a_pair_that_is_half_replaced_is_waited_for() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    let server = Server::load(server_of(vec![pair.clone()])).unwrap();
    let before = shown(&server);
    let (cert, key) = ours.pair(&["a.example"]);
    replace(&pair.cert_file, &cert);
    assert_eq!(looks(&server), [Ok(false)]);
    replace(&pair.key_file, &key);
    assert_eq!(looks(&server), [Ok(false), Ok(true)]);
    assert_ne!(shown(&server), before);

    let before = shown(&server);
    let (cert, key) = ours.pair(&["a.example"]);
    replace(&pair.key_file, &key);
    let [unsettled, settled] = looks(&server);
    assert_eq!(unsettled, Ok(false));
    assert!(settled.as_ref().is_err_and(|said| said.contains("is not the key of")), "{settled:?}");
    assert_eq!(shown(&server), before);
    replace(&pair.cert_file, &cert);
    assert_eq!(looks(&server), [Ok(false), Ok(true)]);
    assert_ne!(shown(&server), before);
}

/// A client that resumed would not have to show its certificate to the new authority.
#[test]
fn a_new_authority_of_clients_counts_at_once_and_ends_their_sessions() {
    let (old, new) = (Authority::new(), Authority::new());
    let settings = Settings { client_ca_file: old.ca_file(), ..old.server() };
    let server = Server::load(settings).unwrap();
    let client = |of: &Authority| {
        let identity = Some(of.identity("app", &[]));
        client::Settings { identity, ..old.client() }.load().unwrap()
    };
    let (of_old, of_new) = (client(&old), client(&new));
    shake(&of_old, &server.current(), "a.example").unwrap();
    shake(&of_new, &server.current(), "a.example").unwrap_err();
    replace(&old.file("ca.pem"), &new.issuer.pem());
    assert_eq!(looks(&server), [Ok(false), Ok(true)]);
    shake(&of_old, &server.current(), "a.example").unwrap_err();
    shake(&of_new, &server.current(), "a.example").unwrap();
}
