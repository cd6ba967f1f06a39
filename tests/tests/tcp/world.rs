//! Servers of bytes, and apps that watch how connections to them end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outrigger_tests::backend::{self, serve};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A configuration with one TCP listener `web` before one cluster `api` of these backends; `extra`
/// goes into the cluster's own table.
pub fn config(addresses: &[SocketAddr], extra: &str) -> String {
    tcp(&backend::config(addresses, extra))
}

/// The same configuration with a TCP listener `web`.
pub fn tcp(config: &str) -> String {
    config.replace("[listeners.web]\n", "[listeners.web]\nprotocol = \"tcp\"\n")
}

/// A server of whatever protocol.
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Has `connection` carry each connection.
    pub async fn at<F, T>(address: SocketAddr, connection: F) -> Self
    where
        F: Fn(TcpStream) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        let task = serve(listener, move |stream| {
            counted.fetch_add(1, Ordering::Relaxed);
            connection(stream)
        });
        Self { address, accepted, task }
    }

    /// Says who it is, and then repeats whatever it hears.
    pub async fn greeting() -> Self {
        Self::greeting_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    pub async fn greeting_at(address: SocketAddr) -> Self {
        Self::at(address, greet_and_repeat).await
    }

    /// Several of these.
    pub async fn some<const N: usize>() -> [Self; N] {
        let mut all = Vec::new();
        for _ in 0..N {
            all.push(Self::greeting().await);
        }
        all.try_into().unwrap_or_else(|_| unreachable!("there are as many as were started"))
    }

    /// Resets every connection, or closes it, before it says a word.
    pub async fn leaving(by_reset: bool) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), move |stream| async move {
            // Who connects knows by then that it has: it would take a failure to connect for another.
            tokio::time::sleep(millis(20)).await;
            match by_reset {
                true => Raw::from(stream).reset(),
                false => drop(stream),
            }
        })
        .await
    }

    /// Its name in the sidecar.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn addresses<const N: usize>(servers: &[Server; N]) -> [SocketAddr; N] {
    servers.each_ref().map(|server| server.address)
}

async fn greet_and_repeat(mut stream: TcpStream) {
    let banner = format!("{}\n", stream.local_addr().unwrap());
    if stream.write_all(banner.as_bytes()).await.is_ok() {
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}

/// A connection to a greeting server, and which one it is; `None`: it ended before that.
pub async fn greeted(address: SocketAddr) -> Option<(Raw, String)> {
    let mut app = Raw::from(TcpStream::connect(address).await.ok()?);
    let server = app.line().await?;
    Some((app, server))
}

/// A connection that was greeted by this server.
pub async fn greeted_by(address: SocketAddr, server: &Server) -> Raw {
    eventually("a connection to it", secs(5), || async {
        let (app, name) = greeted(address).await.expect("somebody is there");
        (name == server.name()).then_some(app)
    })
    .await
}

/// Whatever is said is heard again.
pub async fn assert_repeats(app: &mut Raw) {
    app.send("are you there?").await;
    assert_eq!(app.exactly(14).await, b"are you there?");
}

/// Whoever reads on is told that something broke off, whatever was read before.
pub async fn assert_reset(app: &mut Raw) {
    let (_, end) = app.rest_and_end().await;
    let error = end.expect_err("it was no clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

/// Who comes now is reset, whatever they say.
pub async fn assert_turned_away(address: SocketAddr) {
    let attempt = async {
        // So soon, perhaps, that they do not learn that they were connected.
        let mut app = TcpStream::connect(address).await?;
        app.write_all(b"is anybody there?").await?;
        app.read_to_end(&mut Vec::new()).await
    };
    let error = within(secs(5), "it is told", attempt).await.expect_err("nobody is there");
    let kinds = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
    assert!(kinds.contains(&error.kind()), "{error}");
}

/// TCP connections that have ended for this reason.
pub async fn ends(sidecar: &Sidecar, reason: &str) -> f64 {
    sidecar.metric("outrigger_connection_ends_total", &[("reason", reason)]).await
}

/// Waits until so many have ended for this reason.
pub async fn until_ends(sidecar: &Sidecar, reason: &str, count: usize) {
    eventually(&format!("{count} ends: {reason}"), secs(5), || async {
        (ends(sidecar, reason).await == count as f64).then_some(())
    })
    .await;
}

/// Attempts at this backend of which this came.
pub async fn outcomes(sidecar: &Sidecar, backend: &str, outcome: &str) -> f64 {
    let labels = [("backend", backend), ("outcome", outcome)];
    sidecar.metric("outrigger_outcomes_total", &labels).await
}

/// A stream of bytes that tell where in it they belong: it is random, and begins anew at a length
/// that nobody reads or writes by.
#[derive(Clone)]
pub struct Pattern {
    bytes: Arc<[u8]>,
    at: usize,
}

impl Pattern {
    pub fn new(seed: u64) -> Self {
        let mut bytes = vec![0; 100_003];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        Self { bytes: bytes.into(), at: 0 }
    }

    /// The next bytes, up to so many.
    fn next(&self, most: usize) -> &[u8] {
        let rest = &self.bytes[self.at..];
        &rest[..most.min(rest.len())]
    }

    fn advance(&mut self, by: usize) {
        self.at = (self.at + by) % self.bytes.len();
    }

    /// Sends as much of it as `length`.
    pub async fn send(&mut self, to: &mut (impl AsyncWrite + Unpin), length: usize) {
        let mut left = length;
        while left > 0 {
            left -= self.send_some(to, left).await;
        }
    }

    /// Sends as much of it as is taken at once, up to `most`.
    pub async fn send_some(&mut self, to: &mut (impl AsyncWrite + Unpin), most: usize) -> usize {
        let written = to.write(self.next(most)).await.expect("it can be sent");
        self.advance(written);
        written
    }

    /// Reads as much of it as `length`, and sees to it that it is nothing else.
    pub async fn expect(&mut self, from: &mut (impl AsyncRead + Unpin), length: usize) {
        let (mut left, mut buffer) = (length, vec![0; 64 << 10]);
        while left > 0 {
            let wanted = left.min(buffer.len());
            let read = from.read(&mut buffer[..wanted]).await.expect("it can be read");
            assert!(read > 0, "ended {left} bytes too early");
            self.expect_these(&buffer[..read], length - left);
            left -= read;
        }
    }

    fn expect_these(&mut self, mut bytes: &[u8], place: usize) {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len());
            let length = expected.len();
            assert!(bytes.starts_with(expected), "other bytes, within {length} from {place} on");
            bytes = &bytes[length..];
            self.advance(length);
        }
    }
}

/// Fails when the work is not done in time.
pub async fn within<T>(patience: Duration, what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(patience, work).await;
    done.unwrap_or_else(|_| panic!("not done within {patience:?}: {what}"))
}
