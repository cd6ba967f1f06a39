//! Consul: real agents, and their HTTP API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::backend::unused_port;
use crate::client::{self, Client};
use crate::process::Process;
use crate::{eventually, secs, tool};

/// A running agent.
#[derive(Debug)]
pub struct Consul {
    pub process: Process,
    pub http: SocketAddr,
    arguments: Vec<String>,
    _dir: Option<TempDir>,
}

impl Consul {
    /// A server of its own, which keeps everything in memory.
    pub async fn start() -> Self {
        Self::start_with(json!({})).await
    }

    /// As `start`, with this configuration beside.
    pub async fn start_with(config: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("agent.json"), config.to_string()).unwrap();
        let http = unused_port();
        let port = || unused_port().port().to_string();
        let ports = [
            ("-http-port", http.port().to_string()),
            ("-dns-port", "-1".into()),
            ("-grpc-port", "-1".into()),
            ("-serf-lan-port", port()),
            ("-serf-wan-port", "-1".into()),
            ("-server-port", port()),
        ];
        let mut arguments: Vec<String> = vec!["agent".into(), "-dev".into()];
        arguments.extend(["-bind=127.0.0.1".into(), "-client=127.0.0.1".into()]);
        arguments.extend(ports.map(|(key, value)| format!("{key}={value}")));
        arguments.push(format!("-config-dir={}", dir.path().display()));
        let process = spawn(&arguments);
        let agent = Self { process, http, arguments, _dir: Some(dir) };
        agent.until_leader().await;
        agent
    }

    /// One of several servers that find each other, on an address of its own.
    async fn server(ip: IpAddr, first: IpAddr, count: usize, dir: &Path) -> Self {
        let data = dir.join(ip.to_string());
        let arguments: Vec<String> = vec![
            "agent".into(),
            "-server".into(),
            format!("-bootstrap-expect={count}"),
            format!("-node=server-{ip}"),
            format!("-bind={ip}"),
            format!("-client={ip}"),
            format!("-retry-join={first}"),
            "-retry-interval=1s".into(),
            "-dns-port=-1".into(),
            "-serf-wan-port=-1".into(),
            "-hcl=performance { raft_multiplier = 1 }".into(),
            format!("-data-dir={}", data.display()),
        ];
        let http = SocketAddr::new(ip, 8500);
        Self { process: spawn(&arguments), http, arguments, _dir: None }
    }

    /// The same agent once more, after it has ended.
    pub async fn restart(&mut self) {
        self.process = spawn(&self.arguments);
    }

    pub async fn until_leader(&self) {
        eventually("there is a leader", secs(40), || async {
            let (status, body) = client::get(self.http, "/v1/status/leader").await.ok()?;
            (status == 200 && body.trim().len() > 2).then_some(())
        })
        .await;
        // A leader must also be able to write.
        eventually("it takes writes", secs(20), || async {
            let (status, _) = self.try_put("/v1/kv/ready", "yes").await?;
            (status == 200).then_some(())
        })
        .await;
    }

    async fn try_put(&self, path: &str, body: &str) -> Option<(u16, String)> {
        self.send("PUT", path, body).await
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let request = client::request(method, path, self.http);
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let exchange = async { Client::connect(self.http).await?.send(request).await };
        let answer = tokio::time::timeout(secs(10), exchange).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        Some((answer.status().as_u16(), text))
    }

    pub async fn put(&self, path: &str, body: &Value) -> String {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, said) = self.send("PUT", path, &body).await.expect("Consul answers");
        assert_eq!(status, 200, "{path}: {said}");
        said
    }

    pub async fn delete(&self, path: &str) {
        let (status, said) = self.send("DELETE", path, "").await.expect("Consul answers");
        assert_eq!(status, 200, "{path}: {said}");
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = client::get(self.http, path).await.expect("Consul answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("it is JSON")
    }

    /// Registers an instance of `api`, called by its address; `more` goes into its definition.
    pub async fn register(&self, backend: SocketAddr, more: Value) {
        self.put("/v1/agent/service/register", &service(backend, more)).await;
    }

    pub async fn deregister(&self, backend: SocketAddr) {
        self.put(&format!("/v1/agent/service/deregister/{backend}"), &Value::Null).await;
    }

    /// The check of an instance that was registered with a TTL: `pass`, `warn` or `fail`.
    pub async fn check(&self, backend: SocketAddr, result: &str) {
        self.put(&format!("/v1/agent/check/{result}/service:{backend}"), &Value::Null).await;
    }

    pub async fn maintenance(&self, backend: SocketAddr, enable: bool) {
        let path = format!("/v1/agent/service/maintenance/{backend}?enable={enable}");
        self.put(&path, &Value::Null).await;
    }

    pub async fn node_maintenance(&self, enable: bool) {
        self.put(&format!("/v1/agent/maintenance?enable={enable}"), &Value::Null).await;
    }

    /// `[consul]`, and a cluster `api` with what `extra` says that finds its backends there.
    pub fn config(&self, extra: &str) -> String {
        config(self.http, extra)
    }
}

/// As [`Consul::config`], for whoever speaks like Consul at this address.
pub fn config(http: SocketAddr, extra: &str) -> String {
    format!(
        "[consul]\naddress = \"http://{http}\"\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api]\n{extra}\n\
         [clusters.api.discovery]\nsource = \"consul\"\nservice = \"api\"\n"
    )
}

/// The definition of an instance of `api`.
pub fn service(backend: SocketAddr, more: Value) -> Value {
    let mut service = json!({
        "Name": "api", "ID": backend.to_string(),
        "Address": backend.ip().to_string(), "Port": backend.port(),
    });
    let Value::Object(more) = more else { return service };
    service.as_object_mut().unwrap().extend(more);
    service
}

/// Three servers, of which any two have a leader.
#[derive(Debug)]
pub struct Servers {
    pub servers: Vec<Consul>,
    _dir: TempDir,
}

impl Servers {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Every server has the same ports, so each test has addresses of its own.
        let (a, b) = (fastrand::u8(1..255), fastrand::u8(1..255));
        let ip = |last| IpAddr::V4(Ipv4Addr::new(127, a, b, last));
        let mut servers = Vec::new();
        for last in 1..=3 {
            servers.push(Consul::server(ip(last), ip(1), 3, dir.path()).await);
        }
        for server in &servers {
            server.until_leader().await;
        }
        Self { servers, _dir: dir }
    }
}

fn spawn(arguments: &[String]) -> Process {
    let mut command = Command::new(tool("consul", "consul (of Debian 11; tests/install-consul)"));
    command.args(arguments);
    Process::start(command)
}

/// How long Consul and everyone who watches it may take for a change.
pub const ACTS_WITHIN: Duration = secs(1);
