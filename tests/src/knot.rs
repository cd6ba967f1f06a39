//! Knot as a second DNS authority, of other makers than BIND.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::process::Command;

use crate::backend::unused_port;
use crate::bind::{self, ZONE};
use crate::process::Process;
use crate::tool;

#[derive(Debug)]
pub struct Knot {
    pub process: Process,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Knot {
    /// Starts with these lines in the zone, relative to [`ZONE`], with a TTL of 1 s.
    pub async fn start(records: &str) -> Self {
        let (address, dir) = (unused_port(), tempfile::tempdir().unwrap());
        let path = dir.path().display();
        std::fs::write(dir.path().join("zone"), bind::zone(records)).unwrap();
        let config = dir.path().join("knot.conf");
        std::fs::write(
            &config,
            format!(
                "server:\n    rundir: \"{path}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    \
                 tcp-workers: 1\n    background-workers: 1\ndatabase:\n    storage: \"{path}\"\n\
                 log:\n  - target: stderr\n    any: info\n\
                 zone:\n  - domain: {ZONE}\n    file: \"{path}/zone\"\n",
                port = address.port()
            ),
        )
        .unwrap();
        let mut command = Command::new(tool("knotd", "knot"));
        command.arg("-c").arg(&config);
        let process = Process::start(command);
        let knot = Self { process, address, _dir: dir };
        bind::until_answering(knot.address).await;
        knot
    }

    /// As [`bind::Bind::config`].
    pub fn config(&self, extra: &str) -> String {
        bind::config(self.address, extra)
    }
}
