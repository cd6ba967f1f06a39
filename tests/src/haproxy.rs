//! HAProxy on either side of the sidecar.

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::Process;
use crate::{eventually, secs, tool};

#[derive(Debug)]
pub struct Haproxy {
    pub process: Process,
    _dir: TempDir,
}

impl Haproxy {
    /// Starts with these sections, and waits until something listens at each of `addresses`.
    pub async fn start(sections: &str, addresses: &[std::net::SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("haproxy.cfg");
        let common = "global\n    maxconn 1000\ndefaults\n    timeout connect 5s\n    \
                      timeout client 30s\n    timeout server 30s\n";
        std::fs::write(&config, format!("{common}{sections}")).unwrap();
        let mut command = Command::new(tool("haproxy", "haproxy"));
        command.arg("-db").arg("-f").arg(&config);
        let process = Process::start(command);
        eventually("HAProxy listens", secs(10), || async {
            let mut listening = 0;
            for address in addresses {
                listening += usize::from(tokio::net::TcpStream::connect(address).await.is_ok());
            }
            (listening == addresses.len()).then_some(())
        })
        .await;
        Self { process, _dir: dir }
    }
}
