//! A backend that answers well or breaks off, as the path says.

use std::net::{Ipv4Addr, SocketAddr};

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What it does with a request, by path. All but the tunnel end in a close or, one time in two,
/// a reset.
pub const MANNERS: [(&str, &[u8]); 7] = [
    ("/rude/silent", b""),
    ("/rude/half-a-head", b"HTTP/1.1 200 OK\r\nContent-Len"),
    ("/rude/half-a-body", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf"),
    ("/rude/half-a-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf"),
    ("/rude/no-last-chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    (
        "/rude/early",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\nno\r\n",
    ),
    ("/rude/nonsense", b"\x16\x03\x01 what?\r\n\r\n"),
];
/// Switches protocols and sends everything back.
pub const TUNNEL: &str = "/rude/tunnel";
/// Switches protocols, sends a little and breaks off.
pub const BROKEN_TUNNEL: &str = "/rude/broken-tunnel";

const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

#[derive(Debug)]
pub struct Rude {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Rude {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for seed in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Rng::with_seed(seed)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every connection carries one request; `None` when the sidecar ends it.
async fn serve(mut stream: TcpStream, mut rng: Rng) -> Option<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1)?;
    if path == TUNNEL {
        stream.write_all(SWITCH).await.ok()?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.ok()?;
        return write.shutdown().await.ok();
    }
    if path == BROKEN_TUNNEL {
        stream.write_all(SWITCH).await.ok()?;
        stream.write_all(b"some").await.ok()?;
    }
    if let Some((_, bytes)) = MANNERS.iter().find(|(known, _)| *known == path) {
        stream.write_all(bytes).await.ok()?;
    }
    if rng.bool() {
        stream.set_zero_linger().ok()?;
    }
    Some(())
}
