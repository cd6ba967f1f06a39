//! The project itself: its layout, who imports whom, and what its documents promise.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use outrigger_tests::backend::unused_port;
use outrigger_tests::process::Process;
use outrigger_tests::{binary, client, eventually, root, secs};
use tokio::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Whom each module may import of ours, as sidecar/ARCHITECTURE.md says.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("shutdown", &[]),
    ("disk", &[]),
    ("net", &["disk"]),
    ("balancer", &[]),
    ("telemetry", &["config"]),
    ("config", &["balancer", "net"]),
    ("cluster", &["config", "balancer", "net", "telemetry"]),
    ("discovery", &["cluster", "config", "disk", "net"]),
    ("health", &["cluster", "config", "net"]),
    ("upstream", &["cluster", "config", "net"]),
    ("proxy", &["cluster", "upstream", "config", "net", "shutdown", "telemetry"]),
    ("state", &["cluster", "config", "disk"]),
    ("tls", &["config", "net"]),
    ("readiness", &["cluster", "shutdown"]),
    ("admin", &["cluster", "config", "net", "readiness", "shutdown", "telemetry"]),
    ("control", &["cluster", "config", "disk", "net", "readiness", "shutdown", "telemetry"]),
];

/// With several to choose from, `cargo run` runs none.
#[test]
fn cargo_run_is_the_sidecar() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    assert_eq!(manifest["workspace"]["default-members"], vec!["sidecar"].into());
}

#[test]
fn modules_import_only_whom_they_may() {
    let source = root().join("sidecar/src");
    for (module, allowed) in MAY_IMPORT {
        let mut files = Vec::new();
        collect(&source.join(module), &mut files);
        let single = source.join(format!("{module}.rs"));
        if single.exists() {
            files.push(single);
        }
        assert!(!files.is_empty(), "there is no module {module}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for (at, _) in line.match_indices("crate::") {
                    let rest = &line[at + "crate::".len()..];
                    let named: Vec<&str> = match rest.strip_prefix('{') {
                        // `use crate::{a, b::c}`
                        Some(list) => list.split(',').collect(),
                        None => vec![rest],
                    };
                    for name in named {
                        let end = |c: char| !(c.is_alphanumeric() || c == '_');
                        let name = name.trim().split(end).next().unwrap();
                        assert!(
                            name == *module || name.is_empty() || allowed.contains(&name),
                            "{} imports {name}: {line}",
                            file.display()
                        );
                    }
                }
            }
        }
    }
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    let allowed: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "sidecar",
        "sdk",
        "proto",
        "examples",
        "tests",
        "deploy",
        "README.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "target",
    ]
    .into();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || allowed.contains(name.as_str()),
            "{name} at the top level"
        );
    }
}

#[test]
fn versions_are_at_or_above_the_floors_that_fix_known_holes() {
    let lock: toml::Table = toml::from_str(&read("Cargo.lock")).unwrap();
    let floors = [
        ("hyper", [1, 12, 0]),
        ("hickory-resolver", [0, 26, 1]),
        ("hickory-proto", [0, 26, 1]),
        ("tracing-subscriber", [0, 3, 20]),
        ("bytes", [1, 11, 1]),
        ("lru", [0, 18, 2]),
        ("rustls", [0, 23, 18]),
    ];
    let packages = lock["package"].as_array().unwrap();
    for (name, floor) in floors {
        let versions = packages.iter().filter(|p| p["name"].as_str() == Some(name));
        for version in versions.map(|p| p["version"].as_str().unwrap()) {
            let parts: Vec<u32> =
                version.split(['.', '-', '+']).take(3).map(|p| p.parse().unwrap()).collect();
            assert!(parts.as_slice() >= &floor[..], "{name} {version} is below {floor:?}");
        }
    }
    for banned in ["serde_yaml", "serde_yml", "openssl", "native-tls"] {
        let found = packages.iter().any(|p| p["name"].as_str() == Some(banned));
        assert!(!found, "{banned} is in Cargo.lock");
    }
}

/// The README's table of metrics is the list of those that exist.
#[test]
fn the_readme_lists_every_metric() {
    let source = read("sidecar/src/telemetry/metrics/names.rs");
    let readme = read("README.md");
    let names = |text: &str| {
        let word = |c: char| !(c.is_ascii_lowercase() || c == '_');
        let words = text.split(word).filter(|name| name.starts_with("outrigger_"));
        let words = words.filter(|name| *name != "outrigger_cluster");
        words.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&source), names(&readme));
}

/// Every configuration that the README shows is one.
#[test]
fn configurations_in_the_readme_are_valid() {
    let readme = read("README.md");
    let mut seen = 0;
    for block in readme.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("readme.toml");
        std::fs::write(&file, text).unwrap();
        let checked = std::process::Command::new(binary())
            .arg("check")
            .arg("-c")
            .arg(&file)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stderr));
        seen += 1;
    }
    assert!(seen > 0);
}

/// Files and folders that the documents name exist.
#[test]
fn paths_in_the_documents_exist() {
    // Where names begin: at the root, or at a folder that the text is about.
    let documents: [(&str, &[&str]); 2] = [
        ("README.md", &["."]),
        ("sidecar/ARCHITECTURE.md", &[".", "sidecar/src", "sidecar/src/proxy/http/h1"]),
    ];
    for (document, bases) in documents {
        let text = read(document);
        for name in text.split('`').skip(1).step_by(2) {
            let is_path = name.ends_with(".rs") || name.ends_with('/') && !name.starts_with('/');
            if is_path && !name.contains(['*', '{', ' ']) {
                let exists = |base: &&str| root().join(base).join(name).exists();
                assert!(bases.iter().any(exists), "{document} names `{name}`");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_demo_tells_its_story_and_ends() {
    let mut command = Command::new(binary());
    command.arg("demo");
    let mut demo = Process::start(command);
    assert_eq!(demo.exit(secs(60)).await, 0);
    let said = demo.log();
    assert_eq!(said.matches("failed     0").count(), 3, "{said}");
    for part in [
        "weights 60, 30 and 10",
        "`two` is killed",
        "first used after",
        "curl -i http://127.0.0.1:",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
    let share = |line: &str| line.split_whitespace().nth(2).unwrap().parse::<f64>().unwrap();
    let one = said.lines().find(|line| line.trim_start().starts_with("one ")).unwrap();
    assert!((share(one) - 60.0).abs() <= 3.0, "{one}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_demo_lasts_as_long_as_it_is_told_and_its_urls_answer() {
    let mut command = Command::new(binary());
    command.args(["demo", "--for", "12s"]).stdin(Stdio::null());
    let start = tokio::time::Instant::now();
    let mut demo = Process::start(command);
    let urls = |text: &str| {
        let urls = text.split_whitespace().filter(|word| word.starts_with("http://"));
        urls.map(|url| url.trim_start_matches("http://").to_owned()).collect::<Vec<_>>()
    };
    demo.line(secs(30), |line| line.contains("first used after").then_some(())).await;
    for url in urls(&demo.log()) {
        let (address, path) = url.split_once('/').unwrap();
        let (status, _) = client::get(address.parse().unwrap(), &format!("/{path}")).await.unwrap();
        assert_eq!(status, 200, "{url}");
    }
    assert_eq!(demo.exit(secs(30)).await, 0);
    assert!(start.elapsed() >= secs(11), "{:?}", start.elapsed());
}

/// `check --live` with one backend that is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_live_check_names_the_dead_backend() {
    let backend = outrigger_tests::backend::Backend::start().await;
    let dead = unused_port();
    let check = "[clusters.api.health]\nprobe = \"tcp\"\n";
    let config = outrigger_tests::backend::config(&[backend.address, dead], "") + check;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("live.toml");
    std::fs::write(&file, config).unwrap();
    let ended = eventually("it ends", secs(10), || async {
        Command::new(binary()).args(["check", "--live", "-c"]).arg(&file).output().await.ok()
    })
    .await;
    let table = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let row = |name: String| table.lines().find(|line| line.contains(&name)).unwrap().to_owned();
    assert!(row(backend.name()).contains("pass"), "{table}");
    assert!(row(dead.to_string()).contains("Connection refused"), "{table}");
}
