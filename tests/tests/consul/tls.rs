//! An agent that speaks TLS with a certificate of a private authority.

use std::path::Path;
use std::process::Command;

use outrigger_tests::backend::{Backend, unused_port};
use outrigger_tests::consul::Consul;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::json;

fn openssl(dir: &Path, arguments: &str) {
    let mut command = Command::new(outrigger_tests::tool("openssl", "openssl"));
    let ended = command.current_dir(dir).args(arguments.split(' ')).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_private_authority_is_believed_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir.path(),
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"),
    );
    openssl(
        dir.path(),
        &format!("req -x509 {key} -keyout no.key -out no.pem -days 2 -subj /CN=no"),
    );
    openssl(dir.path(), &format!("req {key} -keyout agent.key -out agent.csr -subj /CN=agent"));
    std::fs::write(dir.path().join("ext"), "subjectAltName = DNS:localhost, IP:127.0.0.1").unwrap();
    let sign = "x509 -req -in agent.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2";
    openssl(dir.path(), &format!("{sign} -extfile ext -out agent.pem"));

    let port = unused_port().port();
    let consul = Consul::start_with(json!({
        "ports": { "https": port }, "cert_file": path("agent.pem"), "key_file": path("agent.key"),
    }))
    .await;
    let backend = Backend::start().await;
    consul.register(backend.address, json!({})).await;
    let config = |host: &str, ca: &str| {
        let http = format!("http://{}", consul.http);
        let https = format!("https://{host}:{port}\"\nca_file = \"{}", path(ca));
        consul.config("").replace(&http, &https)
    };
    for host in ["127.0.0.1", "localhost"] {
        let sidecar = Sidecar::ready(&config(host, "ca.pem")).await;
        sidecar.until_members("api", vec![backend.name()], secs(3)).await;
    }
    let sidecar = Sidecar::start(&config("127.0.0.1", "no.pem")).await;
    eventually("it is not believed", secs(5), || async {
        sidecar.process.log().contains("invalid peer certificate").then_some(())
    })
    .await;
    assert!(sidecar.states("api").await.is_empty());
}
