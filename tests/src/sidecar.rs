//! The sidecar under test.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

use http_body_util::Full;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::client::{self, Client};
use crate::process::Process;
use crate::{binary, eventually, secs};

/// A running `outrigger run`.
#[derive(Debug)]
pub struct Sidecar {
    pub process: Process,
    pub admin: SocketAddr,
    /// Where the control API is, or `off`.
    pub control: String,
    listeners: HashMap<String, SocketAddr>,
    _dir: TempDir,
}

impl Sidecar {
    /// Starts with this configuration (TOML) and waits until it listens. Give listeners port 0;
    /// the admin address and the log format are set from outside, and the address of the control API
    /// unless the configuration has a table for it.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, |_| {}).await
    }

    /// As `start`, with a say in the command.
    pub async fn start_with(config: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("outrigger.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(&file);
        command.env("OUTRIGGER_ADMIN__LISTEN", "127.0.0.1:0").env("OUTRIGGER_LOG__FORMAT", "json");
        if !config.contains("[control]") {
            command.env("OUTRIGGER_CONTROL__LISTEN", "127.0.0.1:0");
        }
        adjust(&mut command);
        let process = Process::start(command);
        let (admin, control) = process.line(secs(10), started).await;
        let wanted = config.lines().filter(|line| line.starts_with("[listeners.")).count();
        let mut listeners = HashMap::new();
        eventually("all listeners are named in the log", secs(5), || {
            let log = process.log();
            listeners = log.lines().filter_map(listener).collect();
            let complete = listeners.len() >= wanted.min(1);
            async move { complete.then_some(()) }
        })
        .await;
        Self { process, admin, control, listeners, _dir: dir }
    }

    /// Starts, and waits until it is ready.
    pub async fn ready(config: &str) -> Self {
        let sidecar = Self::start(config).await;
        sidecar.until_ready().await;
        sidecar
    }

    pub async fn until_ready(&self) {
        eventually("the sidecar is ready", secs(10), || async {
            (self.get("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// The address of the listener `web`.
    pub fn web(&self) -> SocketAddr {
        self.listener("web")
    }

    pub fn listener(&self, name: &str) -> SocketAddr {
        *self.listeners.get(name).unwrap_or_else(|| panic!("no listener `{name}`"))
    }

    /// A page of the admin API: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        client::get(self.admin, path).await.expect("the admin API answers")
    }

    /// Gives an order over the admin API: status and answer.
    pub async fn order(&self, backend: &str, order: &str, body: &str) -> (u16, Value) {
        let path = format!("/api/v1/clusters/api/backends/{backend}/{order}");
        let request = client::request("POST", &path, self.admin).header("x-outrigger-admin", "1");
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let mut client = Client::connect(self.admin).await.expect("the admin API listens");
        let answer = client.send(request).await.expect("the admin API answers");
        let view = serde_json::from_slice(answer.body()).expect("it is JSON");
        (answer.status().as_u16(), view)
    }

    /// Drains a backend of the cluster `api` until `timeout` from now.
    pub async fn drain(&self, backend: &str, timeout: &str) {
        let body = format!("{{\"timeout\": \"{timeout}\"}}");
        let (status, view) = self.order(backend, "drain", &body).await;
        assert_eq!((status, &view["backend"]["state"]), (200, &"draining".into()), "{view}");
    }

    /// What `/api/v1/clusters` says of a backend of the cluster `api`.
    pub async fn backend(&self, name: &str) -> Value {
        let cluster = self.cluster("api").await;
        let backends = cluster["backends"].as_array().expect("a list of backends");
        backends.iter().find(|backend| backend["name"] == name).expect("it is there").clone()
    }

    /// Runs a command about this sidecar: exit code, and what it printed to both outputs.
    pub async fn command(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--admin").arg(self.admin.to_string());
        let ended = tokio::time::timeout(secs(30), command.output()).await;
        let Output { status, stdout, stderr } = ended.expect("it ends").unwrap();
        let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
        (status.code().unwrap(), said)
    }

    /// The view of one cluster in `/api/v1/clusters`.
    pub async fn cluster(&self, name: &str) -> Value {
        let (status, body) = self.get("/api/v1/clusters").await;
        assert_eq!(status, 200, "{body}");
        let view: Value = serde_json::from_str(&body).expect("it is JSON");
        let clusters = view["clusters"].as_array().expect("a list of clusters");
        clusters.iter().find(|c| c["name"] == name).expect("the cluster is there").clone()
    }

    /// `(name, state)` of each backend, in the order of the API.
    pub async fn states(&self, cluster: &str) -> Vec<(String, String)> {
        let cluster = self.cluster(cluster).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let backends = cluster["backends"].as_array().expect("a list of backends");
        backends.iter().map(|b| (text(&b["name"]), text(&b["state"]))).collect()
    }

    /// Waits until exactly these backends are members, in any state.
    pub async fn until_members(&self, cluster: &str, mut wanted: Vec<String>, patience: Duration) {
        wanted.sort();
        eventually(&format!("the members are {wanted:?}"), patience, || async {
            let mut names: Vec<_> =
                self.states(cluster).await.into_iter().map(|(name, _)| name).collect();
            names.sort();
            (names == wanted).then_some(())
        })
        .await;
    }

    pub async fn until_state(&self, cluster: &str, backend: &str, state: &str, patience: Duration) {
        eventually(&format!("{backend} is {state}"), patience, || async {
            let states = self.states(cluster).await;
            states.iter().any(|(b, s)| b == backend && s == state).then_some(())
        })
        .await;
    }

    /// Waits until the source of the cluster `api` fails to confirm its backends, or does confirm them.
    pub async fn until_stale(&self, stale: bool, patience: Duration) {
        eventually(&format!("stale: {stale}"), patience, || async {
            (self.cluster("api").await["stale_since"].is_string() == stale).then_some(())
        })
        .await;
    }

    /// Attempts at a backend that have not ended.
    pub async fn in_flight(&self, cluster: &str, backend: &str) -> u64 {
        let cluster = self.cluster(cluster).await;
        let backends = cluster["backends"].as_array().expect("a list of backends");
        let named = backends.iter().find(|b| b["name"] == backend).expect("it is a member");
        named["in_flight"].as_u64().expect("a number")
    }

    /// How often a backend was picked so far.
    pub async fn picks(&self, cluster: &str, backend: &str) -> f64 {
        let labels = [("outrigger_cluster", cluster), ("backend", backend)];
        let ended = self.metric("outrigger_outcomes_total", &labels).await;
        ended + self.in_flight(cluster, backend).await as f64
    }

    /// The sum of all series of a metric that have these labels.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let (_, page) = self.get("/metrics").await;
        let has = |line: &str| {
            labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
        };
        page.lines()
            .filter(|line| {
                line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
            })
            .filter(|line| has(line))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// SIGTERM, and the exit code.
    pub async fn stop(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.exit(secs(30)).await
    }
}

fn listener(line: &str) -> Option<(String, SocketAddr)> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["message"] == "listening").then_some(())?;
    Some((event["listener"].as_str()?.into(), event["address"].as_str()?.parse().ok()?))
}

fn started(line: &str) -> Option<(SocketAddr, String)> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["message"] == "started").then_some(())?;
    Some((event["admin"].as_str()?.parse().ok()?, event["control"].as_str()?.into()))
}
