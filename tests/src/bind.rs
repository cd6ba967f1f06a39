//! BIND as the DNS authority.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::process::Command;

use crate::backend::unused_port;
use crate::process::Process;
use crate::{eventually, secs, tool};

/// The zone that it is asked for.
pub const ZONE: &str = "test.internal";
/// The service of most tests.
pub const SERVICE: &str = "_api._tcp.test.internal";

#[derive(Debug)]
pub struct Bind {
    pub process: Process,
    pub address: SocketAddr,
    _dir: TempDir,
}

impl Bind {
    /// Starts with these lines in the zone, relative to [`ZONE`], with a TTL of 1 s.
    pub async fn start(records: &str) -> Self {
        let (address, dir) = (unused_port(), tempfile::tempdir().unwrap());
        let path = dir.path().display();
        std::fs::write(dir.path().join("zone"), zone(records)).unwrap();
        let config = dir.path().join("named.conf");
        std::fs::write(
            &config,
            format!(
                "options {{ directory \"{path}\"; pid-file \"{path}/pid\";
                     session-keyfile \"{path}/session.key\"; managed-keys-directory \"{path}\";
                     listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                     recursion no; minimal-responses no; dnssec-validation no;
                     notify no; max-records-per-type 0; }};
                 controls {{ }};
                 zone \"{ZONE}\" {{ type primary; file \"{path}/zone\";
                     allow-update {{ 127.0.0.1; }}; }};",
                port = address.port()
            ),
        )
        .unwrap();
        let mut command = Command::new(tool("named", "bind9"));
        command.args(["-g", "-n", "1", "-c"]).arg(&config);
        // As root, named would want to become a user that may not read the directory.
        let process = Process::start(command);
        process.line(secs(20), |line| line.ends_with(" running").then_some(())).await;
        let bind = Self { process, address, _dir: dir };
        until_answering(bind.address).await;
        bind
    }

    /// Changes the zone in one step: lines of `nsupdate`, names relative to nothing.
    pub async fn update(&self, lines: &str) {
        let mut child = Command::new(tool("nsupdate", "bind9-dnsutils"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let port = self.address.port();
        let script = format!("server 127.0.0.1 {port}\nzone {ZONE}\n{lines}\nsend\n");
        let mut input = child.stdin.take().unwrap();
        input.write_all(script.as_bytes()).await.unwrap();
        drop(input);
        let done = child.wait_with_output().await.unwrap();
        assert!(done.status.success(), "nsupdate: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Answers no more, and takes nothing back.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// `[dns]` and a cluster `api` that finds its backends here; `extra` goes into the cluster's
    /// own table.
    pub fn config(&self, extra: &str) -> String {
        config(self.address, extra)
    }
}

/// The zone with these lines in it.
pub(crate) fn zone(records: &str) -> String {
    format!(
        "$TTL 1\n@ IN SOA ns hostmaster 1 60 60 600 1\n@ IN NS ns\nns IN A 127.0.0.1\n{records}\n"
    )
}

pub(crate) fn config(authority: SocketAddr, extra: &str) -> String {
    format!(
        "[dns]\nnameservers = [\"{authority}\"]\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api]\n{extra}\n\
         [clusters.api.discovery]\nsource = \"dns_srv\"\nname = \"{SERVICE}\"\n"
    )
}

/// Waits until somebody answers for the zone there.
pub(crate) async fn until_answering(address: SocketAddr) {
    eventually("the authority answers", secs(10), || async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // The zone's SOA, asked by hand.
        let mut query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        for label in ZONE.split('.') {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend_from_slice(label.as_bytes());
        }
        query.extend_from_slice(b"\x00\x00\x06\x00\x01");
        socket.send_to(&query, address).await.ok()?;
        let mut answer = [0; 512];
        let read = tokio::time::timeout(secs(1), socket.recv(&mut answer)).await.ok()?.ok()?;
        (read > 12 && answer[3] & 0x0f == 0).then_some(())
    })
    .await;
}

/// One SRV record of [`SERVICE`] and the address of its target, as lines of a zone.
pub fn srv(priority: u16, weight: u16, backend: SocketAddr, target: &str) -> String {
    format!(
        "_api._tcp IN SRV {priority} {weight} {} {target}\n{target} IN A {}\n",
        backend.port(),
        backend.ip()
    )
}
