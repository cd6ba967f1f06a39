//! Backends that are restarted one after the other while traffic goes on, as a deployment does it.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::nginx::Nginx;
use crate::sidecar::Sidecar;
use crate::{eventually, secs};

/// A check of the page on which a backend says whether it wants traffic.
pub const CHECK: &str = "[clusters.api.health]\nprobe = \"http\"\npath = \"/health\"\n\
     interval = \"200ms\"\nrise = 2\nfall = 2\n";

/// nginx processes that say on `/health` whether they want traffic.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Nginx>,
    /// Has a file of a member's name while that one wants no traffic.
    leaving: TempDir,
}

/// How a backend tells that it is about to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Its health page fails.
    HealthPage,
    /// An operator has it drained as well.
    HealthPageAndDrain,
}

impl Fleet {
    pub async fn start(size: usize) -> Self {
        let mut fleet = Self { members: Vec::new(), leaving: tempfile::tempdir().unwrap() };
        for _ in 0..size {
            let address = crate::backend::unused_port();
            let member = fleet.run(address).await;
            fleet.members.push(member);
        }
        fleet
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Restarts one after the other, each when the last one is back.
    pub async fn restart(&mut self, sidecar: &Sidecar, notice: Notice) {
        for index in 0..self.members.len() {
            let address = self.members[index].address;
            self.take_out(sidecar, address, notice).await;
            let member = &mut self.members[index];
            member.process.signal(Signal::QUIT);
            assert_eq!(member.process.exit(secs(10)).await, 0, "{address} ends in order");
            self.bring_back(sidecar, index, notice).await;
        }
    }

    /// Until it is not picked any more and nothing of its work is left.
    async fn take_out(&self, sidecar: &Sidecar, address: SocketAddr, notice: Notice) {
        std::fs::write(self.mark(address), "").unwrap();
        let name = address.to_string();
        let state = match notice {
            Notice::HealthPage => "unhealthy",
            Notice::HealthPageAndDrain => {
                order(sidecar, &name, "drain").await;
                "draining"
            }
        };
        sidecar.until_state("api", &name, state, secs(10)).await;
        eventually(&format!("{name} has no work left"), secs(10), || async {
            let cluster = sidecar.cluster("api").await;
            let backends = cluster["backends"].as_array().unwrap();
            let backend = backends.iter().find(|backend| backend["name"] == *name).unwrap();
            (backend["in_flight"] == 0).then_some(())
        })
        .await;
    }

    async fn bring_back(&mut self, sidecar: &Sidecar, index: usize, notice: Notice) {
        let address = self.members[index].address;
        std::fs::remove_file(self.mark(address)).unwrap();
        self.members[index] = self.run(address).await;
        let name = address.to_string();
        if notice == Notice::HealthPageAndDrain {
            order(sidecar, &name, "resume").await;
        }
        sidecar.until_state("api", &name, "ready", secs(10)).await;
    }

    async fn run(&self, address: SocketAddr) -> Nginx {
        let mark = self.mark(address).display().to_string();
        let health =
            format!("location = /health {{ if (-f {mark}) {{ return 503; }} return 200 ok; }}");
        Nginx::configured(address, &health).await
    }

    fn mark(&self, address: SocketAddr) -> PathBuf {
        self.leaving.path().join(address.to_string())
    }
}

async fn order(sidecar: &Sidecar, backend: &str, what: &str) {
    let (status, view) = sidecar.order(backend, what, "").await;
    assert_eq!(status, 200, "{view}");
}
