//! What `check` and `run` say about affinity before any client comes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use outrigger_tests::backend::config;
use outrigger_tests::binary;
use outrigger_tests::sidecar::Sidecar;
use tempfile::TempDir;

const BY_COOKIE: &str = "[clusters.api.affinity]\nby = \"cookie\"\n";
const BY_ADDRESS: &str = "[clusters.api.affinity]\nby = \"source_ip\"\n";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Exit code, stdout and stderr of a command about this configuration.
fn outrigger(command: &str, config: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("outrigger.toml");
    fs::write(&file, config).unwrap();
    let output = Command::new(binary()).arg(command).arg("-c").arg(&file).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn by_cookie(table: &str, key: &str, path: &Path) -> String {
    format!("[{table}]\n{key} = {:?}\n{}", path.display().to_string(), config(&[], BY_COOKIE))
}

fn secret(text: &str) -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    (dir, file)
}

#[test]
fn check_says_where_the_secret_comes_from_and_makes_none() {
    let said = |config: &str| {
        let (code, out, said) = outrigger("check", config);
        assert_eq!((code, said.as_str()), (0, ""), "{out}");
        assert!(out.contains(": ok, "), "{out}");
        out
    };
    let (dir, file) = secret(SECRET);
    let from_file = said(&by_cookie("affinity", "secret_file", &file));
    assert!(from_file.contains(&format!("the secret in {}", file.display())), "{from_file}");

    let state = dir.path().join("state");
    let from_state = said(&by_cookie("runtime", "state_dir", &state));
    assert!(from_state.contains(&format!("in {}/", state.display())), "{from_state}");
    assert!(!state.exists(), "a check made the secret");

    let from_memory = said(&config(&[], BY_COOKIE));
    assert!(from_memory.contains("in memory"), "{from_memory}");
    let without_cookies = said(&config(&[], ""));
    assert!(!without_cookies.contains("affinity"), "{without_cookies}");
}

#[test]
fn a_secret_that_cannot_be_used_is_named_and_exits_78() {
    let (dir, short) = secret("# ours\nhush\n");
    let missing = dir.path().join("missing");
    for (file, expected) in [
        (&*short, ":2: affinity: has a secret of 4 characters; accepted: "),
        (&*missing, ": affinity: cannot be read: No such file or directory"),
        (dir.path(), ": affinity: is not a regular file"),
    ] {
        for command in ["check", "run"] {
            let (code, out, said) = outrigger(command, &by_cookie("affinity", "secret_file", file));
            assert_eq!((code, out.as_str()), (78, ""), "{said}");
            assert!(said.contains(&format!("{}{expected}", file.display())), "{said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }
}

/// On loopback everyone is 127.0.0.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn affinity_by_an_address_that_all_clients_share_is_warned_of() {
    let config = config(&[], BY_ADDRESS);
    let (code, _, said) = outrigger("check", &config);
    let warning = "warning: listeners.web: cluster `api` tells clients apart by \"source_ip\"";
    assert!(code == 0 && said.contains(warning), "{code}: {said}");
    let (code, _, said) = outrigger("check", &config.replace("127.0.0.1:0", "0.0.0.0:8080"));
    assert_eq!((code, said.as_str()), (0, ""));

    let sidecar = Sidecar::start(&config).await;
    let log = sidecar.process.log();
    let warned = |line: &str| line.contains("\"WARN\"") && line.contains("listeners.web: cluster");
    assert_eq!(log.lines().filter(|line| warned(line)).count(), 1, "{log}");
}
