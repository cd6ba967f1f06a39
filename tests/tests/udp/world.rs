//! Backends that say who they are, clients with addresses of their own, and the sidecar between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use outrigger_tests::backend::endpoints;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::sync::Mutex;

/// How long a client waits for an answer that has to come.
pub const PATIENCE: Duration = secs(5);

/// Held by a test that takes half of all ports, and by those whose servers are started on one that was
/// free just before.
pub static PORTS: Mutex<()> = Mutex::const_new(());

/// A backend on a thread of its own that answers each datagram with its port and what came.
pub struct Echo {
    pub address: SocketAddr,
    pub received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start() -> Self {
        Self::answering(1)
    }

    /// Answers each datagram so many times.
    pub fn answering(times: usize) -> Self {
        Self::on((Ipv4Addr::LOCALHOST, 0).into(), times)
    }

    pub fn on(address: SocketAddr, times: usize) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (received, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, until) = (Arc::clone(&received), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while !until.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer[2..]) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                buffer[..2].copy_from_slice(&address.port().to_be_bytes());
                for _ in 0..times {
                    let _ = socket.send_to(&buffer[..length + 2], from);
                }
            }
        });
        Self { address, received, stop, thread: Some(thread) }
    }

    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Closes its socket: from then on whoever sends there is refused.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `count` backends.
pub fn echoes<const N: usize>() -> [Echo; N] {
    std::array::from_fn(|_| Echo::start())
}

/// A listener `web` with these keys, before a cluster `api` of these backends with keys of its own.
pub fn config(backends: &[SocketAddr], listener: &str, cluster: &str) -> String {
    listening("127.0.0.1:0", backends, listener, cluster)
}

pub fn listening(at: &str, backends: &[SocketAddr], listener: &str, cluster: &str) -> String {
    format!(
        "[listeners.web]\nlisten = \"{at}\"\nprotocol = \"udp\"\ncluster = \"api\"\n{listener}\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{}]\n{cluster}\n",
        endpoints(backends)
    )
}

/// A client: a session is its address.
pub struct Client(pub UdpSocket);

impl Client {
    pub fn of(sidecar: &Sidecar) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, sidecar.web())
    }

    pub fn from(ip: Ipv4Addr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub fn send(&self, datagram: &[u8]) {
        self.0.send(datagram).unwrap();
    }

    /// The next answer: the port of the backend, and what it was sent.
    pub fn answer(&self) -> Option<(u16, Vec<u8>)> {
        let mut buffer = vec![0; 65_535];
        let length = self.0.recv(&mut buffer).ok()?;
        let port = u16::from_be_bytes([buffer[0], buffer[1]]);
        Some((port, buffer[2..length].to_vec()))
    }

    /// Asks, and the port of the backend that answered.
    pub fn ask(&self) -> u16 {
        self.try_ask(PATIENCE).expect("it is answered")
    }

    /// As `ask`, unless no answer comes in time.
    pub fn try_ask(&self, patience: Duration) -> Option<u16> {
        self.0.set_read_timeout(Some(patience)).unwrap();
        self.send(b"hello");
        let (port, said) = self.answer()?;
        assert_eq!(said, b"hello");
        Some(port)
    }
}

/// How often each backend is among these.
pub fn tally(ports: impl IntoIterator<Item = u16>) -> BTreeMap<u16, usize> {
    let mut tally = BTreeMap::new();
    ports.into_iter().for_each(|port| *tally.entry(port).or_default() += 1);
    tally
}

pub async fn sessions(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_udp_sessions", &[("listener", "web")]).await
}

pub async fn ended(sidecar: &Sidecar, reason: &str) -> f64 {
    sidecar.metric("outrigger_connection_ends_total", &[("reason", reason)]).await
}

pub async fn until_sessions(sidecar: &Sidecar, wanted: f64, patience: Duration) {
    eventually(&format!("{wanted} sessions are open"), patience, || async {
        (sessions(sidecar).await == wanted).then_some(())
    })
    .await;
}

/// All sessions that were begun are open or have ended for a reason.
pub async fn assert_accounts(sidecar: &Sidecar, begun: f64) {
    let all = sidecar.metric("outrigger_connections_total", &[("listener", "web")]).await;
    let ended = sidecar.metric("outrigger_connection_ends_total", &[("listener", "web")]).await;
    let open = sessions(sidecar).await;
    assert_eq!((all, open + ended), (begun, begun), "{open} open, {ended} ended");
}
