//! Configuration: what is refused and how that is said, and what is taken.

mod tls;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outrigger_tests::{binary, root};
use serde_json::Value;

fn outrigger(args: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.args(args).current_dir(root()).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn files(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
}

/// Each broken file stands beside the lines that are said about it, one for each problem. What
/// follows on a line is not held to the letter.
#[test]
fn broken_configurations_exit_78_and_say_what_is_wrong_where() {
    let mut seen = 0;
    for file in files("tests/fixtures/broken") {
        if !has_ending(&file, &["toml", "yaml", "json"]) {
            continue;
        }
        seen += 1;
        let expected = std::fs::read_to_string(format!("{}.expected", file.display())).unwrap();
        for command in ["check", "run"] {
            let (code, out, said) = outrigger(&[command, "-c", file.to_str().unwrap()], &[]);
            assert_eq!((code, out.as_str()), (78, ""), "{command} {}: {said}", file.display());
            assert_eq!(said.lines().count(), expected.lines().count(), "{said}");
            for line in expected.lines() {
                assert!(said.contains(line), "{}: {line:?} is not in\n{said}", file.display());
            }
        }
    }
    assert!(seen >= 20, "only {seen} broken configurations");
}

#[test]
fn every_example_is_valid() {
    for file in files("examples").iter().filter(|file| has_ending(file, &["toml", "yaml", "json"]))
    {
        let (code, out, said) = outrigger(&["check", "-c", file.to_str().unwrap()], &[]);
        assert_eq!(code, 0, "{}: {said}", file.display());
        assert!(out.contains(": ok, "), "{out}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (code, _, said) = outrigger(&["run", "-c", "/nowhere.toml"], &[]);
    assert_eq!(
        (code, said.as_str()),
        (78, "/nowhere.toml: cannot be read: No such file or directory (os error 2)\n")
    );
}

#[test]
fn wrong_usage_exits_2() {
    for args in [&["run"][..], &["check", "--no-such-flag"], &["no-such-command"], &[]] {
        assert_eq!(outrigger(args, &[]).0, 2, "{args:?}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_is_named_where_it_is_wrong() {
    let file = ["check", "-c", "examples/dns-srv.toml"];
    let show = ["config", "show", "--json", "-c", "examples/dns-srv.toml"];
    let set = [
        ("OUTRIGGER_CLUSTERS__API__POLICY", "random"),
        ("OUTRIGGER_RUNTIME__SHUTDOWN_GRACE", "3s"),
        ("OUTRIGGER_DNS__NAMESERVERS", "[\"10.0.0.1\", \"10.0.0.2:54\"]"),
        // What Kubernetes sets for a Service of this name, and other strangers.
        ("OUTRIGGER_PORT", "tcp://10.0.0.1:80"),
        ("OUTRIGGER_SERVICE__HOST", "10.0.0.1"),
    ];
    let (code, shown, said) = outrigger(&show, &set);
    assert_eq!(code, 0, "{said}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["clusters"]["api"]["policy"], "random");
    assert_eq!(shown["runtime"]["shutdown_grace"], "3s");
    assert_eq!(shown["dns"]["nameservers"][1], "10.0.0.2:54");

    let (code, _, said) = outrigger(&file, &[("OUTRIGGER_CLUSTERS__API__POLICY", "fastest")]);
    assert_eq!(code, 78);
    let expected =
        "environment OUTRIGGER_CLUSTERS__API__POLICY: clusters.api.policy: got \"fastest\"";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn the_effective_configuration_is_itself_a_configuration() {
    for file in files("examples").iter().filter(|file| has_ending(file, &["toml", "yaml", "json"]))
    {
        let (code, shown, said) = outrigger(&["config", "show", "-c", file.to_str().unwrap()], &[]);
        assert_eq!(code, 0, "{said}");
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("copy.toml");
        std::fs::write(&copy, &shown).unwrap();
        let (code, again, said) = outrigger(&["config", "show", "-c", copy.to_str().unwrap()], &[]);
        assert_eq!((code, again), (0, shown), "{said}");
    }
}

/// Fields of a probe may be credentials.
#[test]
fn secrets_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret.toml");
    let text = "[clusters.api.discovery]\nsource = \"static\"\nendpoints = []\n\
                [clusters.api.health]\nprobe = \"http\"\n\
                headers = { authorization = \"Bearer t0ken\" }\n";
    std::fs::write(&file, text).unwrap();
    for format in [&["--json"][..], &[]] {
        let show = [&["config", "show", "-c", file.to_str().unwrap()], format].concat();
        let (code, shown, said) = outrigger(&show, &[]);
        assert_eq!(code, 0, "{said}");
        assert!(shown.contains("***") && !shown.contains("t0ken"), "{shown}");
    }
}

/// Paths of all keys of a schema, with `*` for a name that the user chooses.
fn keys_of_schema(schema: &Value, path: &str, keys: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, inner) in properties {
            let path = format!("{path}.{key}");
            keys_of_schema(inner, &path, keys);
            keys.push(path);
        }
    }
    if schema["additionalProperties"].is_object() {
        keys_of_schema(&schema["additionalProperties"], &format!("{path}.*"), keys);
    }
    if schema["items"].is_object() {
        keys_of_schema(&schema["items"], path, keys);
    }
}

fn keys_of_file(value: &toml::Value, path: &str, keys: &mut Vec<String>) {
    let named = matches!(path, ".listeners" | ".clusters");
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let path = if named { format!("{path}.*") } else { format!("{path}.{key}") };
                keys_of_file(inner, &path, keys);
                keys.push(path);
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| keys_of_file(item, path, keys)),
        _ => {}
    }
}

/// A file with the keys that are commented out in it, `# key = value`, as if they were not.
fn uncommented(text: &str) -> String {
    let is_key = |line: &&str| line.parse::<toml::Table>().is_ok_and(|table| !table.is_empty());
    let line = |line| format!("{}\n", str::strip_prefix(line, "# ").filter(is_key).unwrap_or(line));
    text.lines().map(line).collect()
}

#[test]
fn the_reference_has_every_key_and_every_key_is_described() {
    let (code, schema, _) = outrigger(&["config", "schema"], &[]);
    assert_eq!(code, 0);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut known = Vec::new();
    keys_of_schema(&schema, "", &mut known);
    assert!(known.len() > 40, "{known:?}");

    let reference = std::fs::read_to_string(root().join("examples/reference.toml")).unwrap();
    let mut shown = Vec::new();
    keys_of_file(&toml::from_str(&uncommented(&reference)).unwrap(), "", &mut shown);
    for key in &known {
        assert!(shown.contains(key), "examples/reference.toml does not show {key}");
    }
    described(&schema, "");
}

fn described(schema: &Value, path: &str) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, inner) in properties {
            assert!(inner["description"].is_string(), "{path}.{key} has no description");
            described(inner, &format!("{path}.{key}"));
        }
    }
    for inner in ["additionalProperties", "items"] {
        if schema[inner].is_object() {
            described(&schema[inner], path);
        }
    }
}

#[test]
fn completions_are_printed_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, said) = outrigger(&["completions", shell], &[]);
        assert_eq!(code, 0, "{said}");
        assert!(script.contains("outrigger"), "{shell}");
    }
}
