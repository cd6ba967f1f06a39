//! Redis: a server that can be killed, and its benchmark.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::process::Command;

use crate::backend::unused_port;
use crate::process::Process;
use crate::raw::Raw;
use crate::{secs, tool};

#[derive(Debug)]
pub struct Redis {
    pub process: Process,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Redis {
    /// Starts empty, and keeps nothing.
    pub async fn start() -> Self {
        let (address, dir) = (unused_port(), tempfile::tempdir().unwrap());
        let mut server = Command::new(tool("redis-server", "redis-server"));
        server.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1"]);
        server.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]);
        let process = Process::start({
            server.arg(dir.path());
            server
        });
        process
            .line(secs(10), |line| line.contains("Ready to accept connections").then_some(()))
            .await;
        Self { process, address, _dir: dir }
    }

    /// Its name in the sidecar.
    pub fn name(&self) -> String {
        self.address.to_string()
    }
}

/// The port of the server at the other end; `None` when the connection ends instead.
pub async fn port(connection: &mut Raw) -> Option<u16> {
    connection.try_send("CONFIG GET port\r\n").await.ok()?;
    // A list of two strings, each behind its length.
    for expected in ["*2\r", "$4\r", "port\r"] {
        assert_eq!(connection.line().await?, expected);
    }
    connection.line().await?;
    connection.line().await?.trim().parse().ok()
}

/// `redis-benchmark` through this address.
pub fn benchmark(address: SocketAddr) -> Command {
    let mut benchmark = Command::new(tool("redis-benchmark", "redis-tools"));
    benchmark.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    benchmark.kill_on_drop(true);
    benchmark
}
