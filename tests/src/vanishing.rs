//! A backend whose machine vanishes.
//!
//! A filter on its sockets drops whatever arrives before TCP sees it: nothing is accepted,
//! acknowledged, refused or answered any more, as behind a cable that was cut. Unlike a network
//! namespace whose link goes down, that takes no privileges.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, Weak};

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::backend::X_BACKEND;
use crate::{eventually, secs};

/// `BPF_RET | BPF_K` of 0: of every packet nothing is let through.
const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// As `/proc/net/tcp` has it.
const ESTABLISHED: &str = "01";
const NOTHING_QUEUED: &str = "00000000:";

/// Answers every request that has no body with 200 and its own address, until it vanishes.
#[derive(Debug)]
pub struct Vanishing {
    pub address: SocketAddr,
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Connections>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Connections {
    vanished: bool,
    open: Vec<Weak<TcpStream>>,
}

impl Vanishing {
    pub async fn start() -> Self {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<Connections>>::default();
        let task = tokio::spawn(accept(Arc::clone(&listener), Arc::clone(&connections), address));
        Self { address, listener, connections, task }
    }

    /// Its name in the sidecar.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Waits until all that it has said is acknowledged. What is not, its kernel would go on
    /// sending after it has vanished, and so show that it is there.
    pub async fn until_heard(&self) {
        // The second column is the local address, the fifth what is queued to be sent and read.
        let local = format!(":{:04X}", self.address.port());
        let waits = |line: &str| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns[1].ends_with(&local)
                && columns[3] == ESTABLISHED
                && !columns[4].starts_with(NOTHING_QUEUED)
        };
        eventually("all is acknowledged", secs(5), || async {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
            (!sockets.lines().skip(1).any(waits)).then_some(())
        })
        .await;
    }

    /// Whatever is sent to it from now on is lost.
    pub fn vanish(&self) {
        cut(&*self.listener);
        let mut connections = self.connections.lock().unwrap();
        connections.vanished = true;
        for stream in connections.open.iter().filter_map(Weak::upgrade) {
            cut(&*stream);
        }
    }

    /// It is there again for those who connect; what was open before stays lost.
    pub fn come_back(&self) {
        self.connections.lock().unwrap().vanished = false;
        SockRef::from(&*self.listener).detach_filter().unwrap();
    }
}

impl Drop for Vanishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whatever is sent to this socket from now on is lost.
pub fn cut(socket: &impl AsFd) {
    SockRef::from(socket).attach_filter(&NOTHING).unwrap();
}

async fn accept(
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Connections>>,
    address: SocketAddr,
) {
    let ok = format!("HTTP/1.1 200 OK\r\n{X_BACKEND}: {address}\r\nContent-Length: 2\r\n\r\nok");
    while let Ok((stream, _)) = listener.accept().await {
        let stream = Arc::new(stream);
        {
            let mut connections = connections.lock().unwrap();
            connections.open.retain(|stream| stream.strong_count() > 0);
            connections.open.push(Arc::downgrade(&stream));
            if connections.vanished {
                cut(&*stream);
            }
        }
        tokio::spawn(answer(stream, ok.clone()));
    }
}

async fn answer(stream: Arc<TcpStream>, ok: String) {
    let mut request = Vec::new();
    while stream.readable().await.is_ok() {
        match stream.try_read_buf(&mut request) {
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return,
        }
        while let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            request.drain(..end + 4);
            if stream.try_write(ok.as_bytes()).is_err() {
                return;
            }
        }
    }
}
