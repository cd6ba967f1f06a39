//! A sidecar that an app may steer.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use outrigger_sdk::{AFFINITY_HEADER, Backend as Seen, Client, affinity_header};
use outrigger_tests::backend::{Backend, X_BACKEND, config};
use outrigger_tests::client::{self, request};
use outrigger_tests::process::Process;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tempfile::TempDir;
use tokio::process::Command;

/// For orders that are to outlast a test.
pub const TTL: Duration = secs(60);

/// A sidecar before the cluster `api`, which can be killed and started again where it was.
#[derive(Debug)]
pub struct World {
    pub sidecar: Sidecar,
    pub client: Client,
    config: String,
    dir: TempDir,
}

impl World {
    /// With these backends, and `extra` in the table of the cluster.
    pub async fn start(backends: &[SocketAddr], extra: &str) -> Self {
        Self::with_control(&config(backends, extra), "").await
    }

    /// With `control` in the table of the control API.
    pub async fn with_control(config: &str, control: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = address(&dir);
        let config = format!("{config}\n[control]\nlisten = {address:?}\n{control}\n");
        let sidecar = Sidecar::ready(&config).await;
        let client = Client::builder().address(address).owner("shop").connect().unwrap();
        Self { sidecar, client, config, dir }
    }

    pub fn address(&self) -> String {
        address(&self.dir)
    }

    /// `kill -9`, if that has not been done, and another life with the same configuration.
    pub async fn restart(&mut self) {
        self.sidecar.process.kill_once().await;
        self.sidecar = Sidecar::ready(&self.config).await;
    }

    /// A backend as it is now.
    pub async fn backend(&self, name: &str) -> Seen {
        let cluster = self.client.cluster("api").await.unwrap();
        cluster.backends.into_iter().find(|backend| backend.name == name).expect("it is there")
    }

    /// Waits until a backend is so.
    pub async fn until(&self, name: &str, what: &str, is: impl Fn(&Seen) -> bool) {
        eventually(&format!("{name} is {what}"), secs(5), async || {
            is(&self.backend(name).await).then_some(())
        })
        .await;
    }

    /// Another process that calls the control API here.
    pub fn app(&self, mut command: Command) -> Process {
        command.env("OUTRIGGER_CONTROL", self.address());
        Process::start(command)
    }
}

fn address(dir: &TempDir) -> String {
    format!("unix:{}", dir.path().join("control.sock").display())
}

pub async fn backends<const N: usize>() -> [Backend; N] {
    let mut all = Vec::new();
    for _ in 0..N {
        all.push(Backend::start().await);
    }
    all.try_into().unwrap()
}

/// Who answers a request with this key.
pub async fn home(connection: &mut client::Client, address: SocketAddr, key: &str) -> String {
    let request =
        request("GET", "/", address).header(AFFINITY_HEADER, affinity_header(key).unwrap());
    let answer = connection.send(request.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.headers()[X_BACKEND].to_str().unwrap().to_owned()
}
