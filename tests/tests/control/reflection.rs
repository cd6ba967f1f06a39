//! Every call, by a client that knows no more than reflection tells.

use std::path::PathBuf;
use std::process::Output;

use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{root, secs};
use tokio::process::Command;

use crate::config;

/// What `./tests/run` has installed.
fn tool() -> PathBuf {
    let tool = root().join("target/tools/grpcurl");
    assert!(tool.is_file(), "{} is missing: ./tests/run installs it", tool.display());
    tool
}

/// Runs grpcurl: exit code, and what it printed to both outputs.
pub(crate) async fn grpcurl(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(tool());
    command.args(arguments).kill_on_drop(true);
    let ended = tokio::time::timeout(secs(20), command.output()).await;
    let Output { status, stdout, stderr } = ended.expect("it ends").unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap_or(-1), said)
}

struct Client {
    address: String,
}

impl Client {
    async fn describe(&self, symbol: &str) -> String {
        let (code, said) = grpcurl(&["-plaintext", &self.address, "describe", symbol]).await;
        assert_eq!(code, 0, "{said}");
        said
    }

    async fn call(&self, method: &str, request: &str) -> (i32, String) {
        // A watch goes on until its caller has had enough.
        let patience = if method == "WatchCluster" { "2" } else { "10" };
        let method = format!("outrigger.v1.ControlService/{method}");
        let arguments =
            ["-max-time", patience, "-plaintext", "-d", request, &self.address, &method];
        grpcurl(&arguments).await
    }
}

/// A call for each way that there is: what is asked, and what is in the answer, or the error.
const CALLS: &[(&str, &str, &str)] = &[
    ("ListClusters", r#"{}"#, r#""name": "api""#),
    ("ListClusters", r#"{"cluster": "api"}"#, r#""policy": "round_robin""#),
    ("ListClusters", r#"{"cluster": "nobody"}"#, "Code: NotFound"),
    ("WatchCluster", r#"{"cluster": "api"}"#, r#""full": true"#),
    ("WatchCluster", r#"{"cluster": "nobody"}"#, "Code: NotFound"),
    ("OpenLease", r#"{"owner": "app"}"#, r#""leaseId": ""#),
    ("OpenLease", r#"{"owner": "admin"}"#, "Code: InvalidArgument"),
    ("SetWeight", r#"{C, B, "weight": 5, "ttl": "60s"}"#, r#""effectiveWeight": 5"#),
    (
        "SetWeight",
        r#"{C, B, "factor": 0.5, "ttl": "60s", "owner": "b"}"#,
        r#""effectiveWeight": 2.5"#,
    ),
    ("SetWeight", r#"{C, B, "weight": 70000, "ttl": "60s"}"#, "Code: InvalidArgument"),
    ("SetWeight", r#"{C, B, "weight": 5}"#, "Code: InvalidArgument"),
    ("SetWeight", r#"{C, B, "weight": 5, "leaseId": "x"}"#, "Code: NotFound"),
    ("ClearWeight", r#"{C, B}"#, r#""effectiveWeight": 0.5"#),
    ("ClearWeight", r#"{C, B, "all": true}"#, "Code: PermissionDenied"),
    ("ClearWeight", r#"{C, "backend": "x"}"#, "Code: NotFound"),
    ("SetAffinity", r#"{C, B, "key": "k", "ttl": "60s"}"#, r#""backend": "10.0.0.1:1""#),
    ("SetAffinity", r#"{C, B, "ttl": "60s"}"#, "Code: InvalidArgument"),
    ("GetAffinity", r#"{C, "key": "k"}"#, r#""reason": "REASON_PIN""#),
    ("GetAffinity", r#"{C, "key": "other"}"#, r#""reason": "REASON_POLICY""#),
    ("GetAffinity", r#"{C}"#, "Code: InvalidArgument"),
    ("Explain", r#"{C, "key": "k"}"#, r#""summary": "the key is pinned to 10.0.0.1:1""#),
    ("Explain", r#"{"cluster": "nobody"}"#, "Code: NotFound"),
    ("ClearAffinity", r#"{C, "key": "k"}"#, r#""cleared": true"#),
    ("ClearAffinity", r#"{C, "key": "k"}"#, "{}"),
    ("ClearAffinity", r#"{C}"#, "Code: InvalidArgument"),
    ("WaitDrained", r#"{C, B}"#, r#""resumed": true"#),
    ("Drain", r#"{C, B, "timeout": "1s", "ttl": "60s"}"#, r#""state": "STATE_DRAINING""#),
    ("Drain", r#"{C, B, "timeout": "1s"}"#, "Code: InvalidArgument"),
    ("WaitDrained", r#"{C, B}"#, "{}"),
    ("WaitDrained", r#"{C, "backend": "x"}"#, "Code: NotFound"),
    ("Resume", r#"{C, B}"#, r#""state": "STATE_READY""#),
    ("Resume", r#"{C, B, "owner": "fleet"}"#, "Code: InvalidArgument"),
    ("ReportOutcome", r#"{C, B, "outcome": "OUTCOME_SUCCESS", "latency": "0.01s"}"#, "{}"),
    ("ReportOutcome", r#"{C, B}"#, "Code: InvalidArgument"),
    ("ReportOutcome", r#"{C, "backend": "x", "outcome": "OUTCOME_RESET"}"#, "Code: NotFound"),
    ("ListEvents", r#"{}"#, r#""kind": "joined""#),
    ("ListEvents", r#"{"after": "1000000"}"#, r#""id": "1""#),
    ("ListEvents", r#"{"wait": "-1s"}"#, "Code: InvalidArgument"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_call_is_found_by_reflection_and_answers() {
    let sidecar = Sidecar::ready(&config(2)).await;
    let client = Client { address: sidecar.control.clone() };
    let (code, services) = grpcurl(&["-plaintext", &client.address, "list"]).await;
    assert_eq!(code, 0, "{services}");
    for service in ["outrigger.v1.ControlService", "grpc.health.v1.Health"] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let backend = client.describe("outrigger.v1.Backend").await;
    assert!(backend.contains("double effective_weight = 6"), "{backend}");
    let described = client.describe("outrigger.v1.ControlService").await;
    for (method, ..) in CALLS {
        assert!(described.contains(&format!("rpc {method} (")), "{described}");
    }
    let methods: std::collections::BTreeSet<_> = CALLS.iter().map(|(method, ..)| method).collect();
    assert_eq!(methods.len(), described.matches("rpc ").count(), "each is called");
    for (method, request, expected) in CALLS {
        let request = request.replace("B,", r#""backend": "10.0.0.1:1","#);
        let request = request.replace("B}", r#""backend": "10.0.0.1:1"}"#);
        let request = request.replace("{C", r#"{"cluster": "api""#);
        let (code, said) = client.call(method, &request).await;
        assert!(said.contains(expected), "{method} {request}: {said}");
        let failed = expected.starts_with("Code:") || *method == "WatchCluster";
        assert_eq!(code != 0, failed, "{method} {request}: {said}");
    }
}

/// What is wrong is said in a way that a program understands, and a person.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn details_of_errors_are_described_too() {
    let sidecar = Sidecar::start(&config(1)).await;
    let client = Client { address: sidecar.control.clone() };
    let (_, said) = client.call("ListClusters", r#"{"cluster": "nobody"}"#).await;
    for part in ["google.rpc.ResourceInfo", "\"resourceType\": \"cluster\"", "\"nobody\""] {
        assert!(said.contains(part), "{said}");
    }
}
