//! nginx as a backend: a process that can be killed.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::backend::{X_BACKEND, unused_port};
use crate::process::Process;
use crate::{eventually, secs, tool};

#[derive(Debug)]
pub struct Nginx {
    pub process: Process,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Nginx {
    pub async fn start() -> Self {
        Self::at(unused_port()).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        Self::configured(address, "").await
    }

    /// As `at`, with these directives in its `server` block.
    pub async fn configured(address: SocketAddr, directives: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("nginx.conf");
        let path = dir.path().display();
        std::fs::write(
            &config,
            format!(
                "daemon off; worker_processes 1; pid {path}/pid; error_log stderr warn;
                 events {{ worker_connections 1024; }}
                 http {{ access_log off; keepalive_requests 1000000;
                     client_body_temp_path {path}; proxy_temp_path {path};
                     fastcgi_temp_path {path}; uwsgi_temp_path {path}; scgi_temp_path {path};
                     server {{ listen {address}; {directives}
                         location / {{ add_header {X_BACKEND} {address}; return 200 'hello\\n'; }} }} }}"
            ),
        )
        .unwrap();
        let mut command = Command::new(tool("nginx", "nginx-light"));
        command.arg("-p").arg(dir.path()).arg("-c").arg(&config);
        let process = Process::start(command);
        eventually("nginx listens", secs(10), || async {
            TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
        Self { process, address, _dir: dir }
    }

    /// `kill -9`, and wait until its worker, which may outlive it for a moment, is gone too.
    pub async fn kill(&mut self) {
        self.process.kill().await;
        eventually("nobody listens", secs(10), || async {
            TcpStream::connect(self.address).await.is_err().then_some(())
        })
        .await;
    }

    pub fn name(&self) -> String {
        self.address.to_string()
    }
}
