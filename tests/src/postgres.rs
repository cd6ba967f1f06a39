//! PostgreSQL: servers, and its own clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;
use tokio::process::Command;

use crate::backend::unused_port;
use crate::process::Process;
use crate::{eventually, secs, tool};

/// Whom the servers run as where the tests run as root, which PostgreSQL refuses to.
const USER: &str = "postgres";

/// A server with an empty database, which everybody on this machine may use.
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Postgres {
    pub async fn start() -> Self {
        let (address, dir) = (unused_port(), tempfile::tempdir().unwrap());
        give(dir.path()).await;
        let data = dir.path().join("data");
        let mut init = unprivileged(&binary("initdb"));
        init.args(["--auth=trust", "--no-sync", "--no-instructions", "--username", USER, "-D"]);
        output(init.arg(&data)).await;
        let mut server = unprivileged(&binary("postgres"));
        server.arg("-D").arg(&data).arg("-p").arg(address.port().to_string());
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        server.args(["-c", "fsync=off"]);
        let process = Process::start(server);
        eventually("PostgreSQL answers", secs(30), || async {
            psql(address)
                .args(["-c", "select 1"])
                .output()
                .await
                .unwrap()
                .status
                .success()
                .then_some(())
        })
        .await;
        Self { process, address, _dir: dir }
    }

    /// Its name in the sidecar.
    pub fn name(&self) -> String {
        self.address.to_string()
    }
}

/// The interactive client, which prints bare values here.
pub fn psql(address: SocketAddr) -> Command {
    let mut psql = client("psql", address);
    psql.args(["--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1"]);
    psql
}

/// What it says to one statement.
pub async fn ask(address: SocketAddr, statement: &str) -> String {
    output(psql(address).args(["-c", statement])).await.trim().to_owned()
}

/// The benchmark that comes with PostgreSQL.
pub fn pgbench(address: SocketAddr) -> Command {
    client("pgbench", address)
}

fn client(name: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(tool(name, "postgresql"));
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-U", USER]);
    // Nobody's settings but those of this command.
    command.env_remove("PGDATABASE").env("PGCONNECT_TIMEOUT", "10").kill_on_drop(true);
    command
}

/// What a command prints to both outputs, when it succeeds.
pub async fn output(command: &mut Command) -> String {
    let ended = tokio::time::timeout(secs(60), command.output()).await;
    let Output { status, stdout, stderr } = ended.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{:?}: {said}", command.as_std().get_program());
    said.into_owned()
}

/// A program of the server, which is not on everybody's path.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = versions.map(|version| version.unwrap().path().join("bin").join(name));
    found.filter(|file| file.is_file()).max().unwrap_or_else(|| tool(name, "postgresql"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new(tool("runuser", "util-linux"));
    command.args(["-u", USER, "--"]).arg(program);
    command
}

/// Lets the server write here.
async fn give(dir: &Path) {
    if is_root() {
        output(Command::new("chown").arg(USER).arg(dir)).await;
    }
}
