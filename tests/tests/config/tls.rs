//! Certificates and keys: part of the configuration, and followed while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::outrigger;

/// A folder with a certificate, its key, and a configuration that names them.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        world.renew();
        let text = world.config() + &world.backend_tls();
        fs::write(world.path("outrigger.toml"), text).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the certificate and the key anew.
    fn renew(&self) {
        let (cert, key) = pair();
        fs::write(self.path("web.pem"), cert).unwrap();
        write_key(&self.path("web.key"), &key);
    }

    fn config(&self) -> String {
        let (cert, key) = (self.path("web.pem"), self.path("web.key"));
        format!(
            "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
             tls = {{ cert_file = {cert:?}, key_file = {key:?} }}\n\
             [clusters.api.discovery]\nsource = \"static\"\nendpoints = []\n"
        )
    }

    fn backend_tls(&self) -> String {
        format!("[clusters.api.tls]\nca_file = {:?}\n", self.path("web.pem"))
    }

    /// What `check` and `run` say of what is wrong, with the folder left out.
    fn refused(&self) -> String {
        let file = self.path("outrigger.toml");
        let [checked, run] = ["check", "run"].map(|command| {
            let (code, out, said) = outrigger(&[command, "-c", file.to_str().unwrap()], &[]);
            assert_eq!((code, out.as_str()), (78, ""), "{command}: {said}");
            said
        });
        assert_eq!(checked, run);
        checked.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn pair() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["web.example".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn write_key(path: &Path, key: &str) {
    fs::write(path, key).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn certificates_and_keys_that_are_whole_are_taken() {
    let world = World::new();
    let file = world.path("outrigger.toml");
    let (code, out, said) = outrigger(&["check", "-c", file.to_str().unwrap()], &[]);
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(out.contains(": ok, 1 listeners, 1 clusters"), "{out}");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let world = World::new();
    fs::set_permissions(world.path("web.key"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        world.refused(),
        "web.key: listeners.web.tls: is open to others than its owner (mode 0644); \
         accepted: 0600 or 0400\n"
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let world = World::new();
    write_key(&world.path("web.key"), &pair().1);
    assert_eq!(world.refused(), "web.key: listeners.web.tls: is not the key of web.pem\n");
}

/// All that is wrong is said at once, of listeners and clusters.
#[test]
fn files_that_are_missing_are_named_with_their_keys() {
    let world = World::new();
    fs::remove_file(world.path("web.pem")).unwrap();
    let why = "cannot be read: No such file or directory (os error 2)";
    assert_eq!(
        world.refused(),
        format!("web.pem: listeners.web.tls: {why}\nweb.pem: clusters.api.tls: {why}\n")
    );
}

#[test]
fn backends_that_are_not_verified_are_warned_of() {
    let world = World::new();
    let file = world.path("outrigger.toml");
    let text = world.config() + &world.backend_tls() + "insecure_skip_verify = true\n";
    fs::write(&file, text).unwrap();
    let (code, _, said) = outrigger(&["check", "-c", file.to_str().unwrap()], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning: clusters.api.tls: with `insecure_skip_verify` "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn certificates_are_followed_and_a_failure_is_logged_once() {
    let world = World::new();
    let insecure = world.backend_tls() + "insecure_skip_verify = true\n";
    let sidecar = Sidecar::start(&(world.config() + &insecure)).await;
    assert!(sidecar.process.log().contains("clusters.api.tls: with `insecure_skip_verify` "));
    let count = |of: &str| sidecar.process.log().matches(of).count();
    let (taken, refused) = ("new certificates are in use", "the old certificates stay in use");
    world.renew();
    sidecar.process.line(secs(10), |line| line.contains(taken).then_some(())).await;
    fs::set_permissions(world.path("web.key"), Permissions::from_mode(0o644)).unwrap();
    sidecar.process.line(secs(10), |line| line.contains("(mode 0644)").then_some(())).await;
    // That nothing more is said shows only in time: that of three looks.
    tokio::time::sleep(secs(3)).await;
    write_key(&world.path("web.key"), &pair().1);
    sidecar.process.line(secs(10), |line| line.contains("is not the key of").then_some(())).await;
    assert_eq!((count("(mode 0644)"), count(refused), count(taken)), (1, 2, 1));
    world.renew();
    outrigger_tests::eventually("it is mended", secs(10), || async {
        (count(taken) == 2).then_some(())
    })
    .await;
    assert_eq!(count(refused), 2);
}
