//! What is refused in files, and how that is said.

use super::*;

/// What is said of the pair, from the file on that it is about.
fn said(identity: &Identity) -> String {
    let error = server::Server::load(server_of(vec![identity.clone()])).unwrap_err().to_string();
    let dir = identity.key_file.parent().unwrap().display().to_string();
    error.replace(&format!("{dir}/"), "")
}

#[test]
fn a_key_is_for_its_owner_alone() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    for mode in [0o600, 0o400, 0o700] {
        set_mode(&pair.key_file, mode);
        load(server_of(vec![pair.clone()]));
    }
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o440] {
        set_mode(&pair.key_file, mode);
        let expected = format!(
            "a.key: is open to others than its owner (mode 0{mode:o}); accepted: 0600 or 0400"
        );
        assert_eq!(said(&pair), expected);
    }
}

#[test]
fn a_key_file_holds_a_key_and_little_else() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    let (key, cert) = (&pair.key_file, fs::read_to_string(&pair.cert_file).unwrap());
    let good = fs::read_to_string(key).unwrap();
    let encrypted = good.replace(" PRIVATE", " ENCRYPTED PRIVATE");
    let cut = good.replace("-----END", "-----");
    for (text, expected) in [
        ("", "a.key: has no private key; accepted: one in PEM"),
        (&cert, "a.key: has no private key; accepted: one in PEM"),
        (
            &encrypted,
            "a.key: has no private key; accepted: one in PEM, as PKCS #8, PKCS #1 or SEC1",
        ),
        (&cut, "a.key: is not PEM: a section has no end"),
        (&good.replace('M', "\u{7f}"), "a.key: is not PEM: base64"),
        (&good.replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN\n"), "a.key: "),
        (&"#\n".repeat(32 << 10), "a.key: has no private key"),
        (&"#\n".repeat((32 << 10) + 1), "a.key: cannot be read: it is longer than 65536 bytes"),
    ] {
        fs::write(key, text).unwrap();
        let said = said(&pair);
        assert!(said.starts_with(expected), "{expected:?} is not {said:?}");
    }
    fs::write(key, good + &cert).unwrap();
    load(server_of(vec![pair]));
}

#[test]
fn a_key_file_is_a_regular_file() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    fs::remove_file(&pair.key_file).unwrap();
    assert!(said(&pair).starts_with("a.key: cannot be read: No such file"), "{}", said(&pair));
    let made = std::process::Command::new("mkfifo").arg(&pair.key_file).status().unwrap();
    assert!(made.success());
    assert_eq!(said(&pair), "a.key: cannot be read: it is not a regular file");
    fs::remove_file(&pair.key_file).unwrap();
    fs::create_dir(&pair.key_file).unwrap();
    assert_eq!(said(&pair), "a.key: cannot be read: it is not a regular file");
}

#[test]
fn a_pair_belongs_together() {
    let ours = Authority::new();
    let (a, b) = (ours.identity("a", &["a.example"]), ours.identity("b", &["a.example"]));
    let mixed = Identity { key_file: b.key_file, ..a };
    assert_eq!(said(&mixed), format!("b.key: is not the key of {}", "a.pem"));
}

#[test]
fn a_certificate_file_holds_certificates() {
    let ours = Authority::new();
    let pair = ours.identity("a", &["a.example"]);
    let good = fs::read_to_string(&pair.cert_file).unwrap();
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, expected) in [
        ("", "a.pem: has no certificate in PEM"),
        (hollow, "a.pem: is of no use: invalid peer certificate: BadEncoding"),
        (&good.replace("-----END", "-----"), "a.pem: is not PEM: a section has no end"),
        (&"#".repeat((1 << 20) + 1), "a.pem: cannot be read: it is longer than 1048576 bytes"),
    ] {
        fs::write(&pair.cert_file, text).unwrap();
        assert_eq!(said(&pair), expected);
    }
}

#[test]
fn those_who_vouch_are_there() {
    let ours = Authority::new();
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (text, expected) in [
        ("", "has no certificate in PEM"),
        (hollow, "has no certificate that could vouch for others"),
    ] {
        fs::write(ours.file("ca.pem"), text).unwrap();
        let expected = format!("{}: {expected}", ours.file("ca.pem").display());
        assert_eq!(ours.client().load().unwrap_err().to_string(), expected);
        let server = server::Settings { client_ca_file: ours.ca_file(), ..ours.server() };
        assert_eq!(server::Server::load(server).unwrap_err().to_string(), expected);
    }
}
