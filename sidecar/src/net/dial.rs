//! Connecting to an address, and noticing when what is there vanishes.
//!
//! A machine that loses its power or its cable says nothing, not even that it is gone, and by
//! default the kernel believes in it for a quarter of an hour. So it is asked when it has been
//! silent, and given up when it acknowledges nothing. A process that is slow or stopped is not
//! mistaken for that, since its kernel goes on answering.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown, sockopt};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::Address;
use super::tls::client::Client;

/// A peer that has been silent for so long is asked whether it is there, and again every so often.
const ASKED_AFTER: Duration = Duration::from_secs(3);
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// How long a peer may acknowledge nothing of what it was sent or asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Six seconds: by then what was lost has been sent again four times, where a round trip takes
    /// less than a fifth of a second.
    Short,
    /// A minute, for those who are sent more than they may have room for: to the kernel somebody
    /// who takes nothing is no better than somebody who has vanished.
    Long,
}

impl Patience {
    fn millis(self) -> u32 {
        match self {
            Self::Short => 6_000,
            Self::Long => 60_000,
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Over one of the others.
    Tls(Box<TlsStream<Stream>>),
}

/// A connected socket that is not part of any runtime, on its way to another thread.
#[derive(Debug)]
pub enum StdStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    pub fn into_std(self) -> io::Result<StdStream> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(StdStream::Tcp),
            Self::Unix(stream) => stream.into_std().map(StdStream::Unix),
            Self::Tls(_) => Err(io::Error::other("what TLS knows of it cannot leave the runtime")),
        }
    }

    /// Makes the socket part of the runtime of this thread.
    pub fn from_std(stream: StdStream) -> io::Result<Self> {
        match stream {
            StdStream::Tcp(stream) => TcpStream::from_std(stream).map(Self::Tcp),
            StdStream::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
        }
    }

    /// Whether what is written is what the socket carries.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }

    /// Lets nobody take what was sent for whole when this is closed.
    pub fn reset_on_close(&self) {
        match self {
            Self::Tcp(stream) => drop(stream.set_zero_linger()),
            // It has no reset; its close is all there is to see.
            Self::Unix(_) => {}
            Self::Tls(stream) => stream.get_ref().0.reset_on_close(),
        }
    }

    /// What has come and not been read, as far as there is room; 0 at the end of the stream.
    pub async fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(into).await,
            Self::Unix(stream) => {
                let peek = || Ok(recv(stream, &mut *into, RecvFlags::PEEK)?.0);
                stream.async_io(Interest::READABLE, peek).await
            }
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Ends when the other side is gone: it has broken off, or has ended and there is not a word of it to
    /// be read. Whoever has said something may have ended and wait for the answer still.
    pub async fn gone(&self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {
                if matches!(self.peek(&mut [0; 1]).await, Ok(1..)) {
                    self.broken().await;
                }
            }
            // What has come may be the end, or a word.
            Self::Tls(_) => self.broken().await,
        }
    }

    async fn broken(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.ready(Interest::ERROR).await,
            Self::Unix(stream) => stream.ready(Interest::ERROR).await,
            Self::Tls(stream) => return Box::pin(stream.get_ref().0.broken()).await,
        };
    }

    /// What it is bound to on this side; a unix socket has no such address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
            Self::Tls(stream) => stream.get_ref().0.local_addr(),
        }
    }

    /// The user on the other side, as the kernel knows it: of a unix socket alone.
    pub fn peer_user(&self) -> Option<u32> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(stream) => stream.peer_cred().ok().map(|peer| peer.uid()),
            Self::Tls(stream) => stream.get_ref().0.peer_user(),
        }
    }

    /// The certificate that the other side has shown.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }

    /// What has broken it, if no read or write has told that yet.
    pub fn check(&self) -> io::Result<()> {
        let error = match self {
            Self::Tcp(stream) => stream.take_error()?,
            Self::Unix(stream) => stream.take_error()?,
            Self::Tls(stream) => return stream.get_ref().0.check(),
        };
        error.map_or(Ok(()), Err)
    }

    /// Says that no more will come, and tells what has broken the connection, if no read or write has
    /// told that yet.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Poll::Ready(end(stream)),
            Self::Unix(stream) => match stream.take_error()? {
                Some(error) => Poll::Ready(Err(error)),
                None => Pin::new(stream).poll_shutdown(cx),
            },
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// From now on what is written is sent at once, also while the peer has not said that it has what
    /// came before.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.get_ref().0.set_nodelay(),
        }
    }

    /// From now on the peer is asked whether it is there when it is silent, and given up when it is for
    /// too long; nobody vanishes from a unix socket.
    pub fn watch(&self, patience: Patience) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                sockopt::set_socket_keepalive(stream, true)?;
                sockopt::set_tcp_keepidle(stream, ASKED_AFTER)?;
                sockopt::set_tcp_keepintvl(stream, ASKED_EVERY)?;
                self.set_patience(patience)
            }
            Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.get_ref().0.watch(patience),
        }
    }

    /// Changes for how long a peer that is watched may be silent.
    pub fn set_patience(&self, patience: Patience) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => Ok(sockopt::set_tcp_user_timeout(stream, patience.millis())?),
            Self::Unix(_) => Ok(()),
            Self::Tls(stream) => stream.get_ref().0.set_patience(patience),
        }
    }
}

/// How a connection begins, before anything of the app's.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// For the connection itself; `None` waits as long as the kernel does.
    pub timeout: Option<Duration>,
    /// `None`: the connection is left as the kernel makes it, and whoever opens it sees to the rest.
    pub patience: Option<Patience>,
    /// What is written first, in the clear.
    pub header: &'a [u8],
    /// Who speaks TLS then, and the name of the other side.
    pub tls: Option<(&'a Client, &'a str)>,
}

/// Connects, and does what a connection begins with.
pub async fn open(address: &Address, opening: Opening<'_>) -> io::Result<Stream> {
    let mut stream = match opening.patience {
        Some(patience) => connect(address, opening.timeout, patience).await?,
        None => dial(address, opening.timeout).await?,
    };
    if !opening.header.is_empty() {
        // It fits into what the kernel takes of a new connection.
        stream.write_all(opening.header).await?;
    }
    match opening.tls {
        Some((client, host)) => client.handshake(stream, host).await,
        None => Ok(stream),
    }
}

/// Whether this is the kernel giving up a peer that has vanished, not the peer closing.
pub fn has_vanished(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
}

/// Connects within `timeout`; `None` waits as long as the kernel does. What is written is sent at once,
/// since it is written whole, and the peer is watched.
pub async fn connect(
    address: &Address,
    timeout: Option<Duration>,
    patience: Patience,
) -> io::Result<Stream> {
    let stream = dial(address, timeout).await?;
    stream.set_nodelay()?;
    stream.watch(patience)?;
    Ok(stream)
}

async fn dial(address: &Address, timeout: Option<Duration>) -> io::Result<Stream> {
    let connecting = async {
        match address {
            Address::Tcp(address) => dial_tcp(*address).await.map(Stream::Tcp),
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    };
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, connecting).await?,
        None => connecting.await,
    }
}

/// As tokio connects, but that it is the event which tells how it went: to ask the kernel each time
/// costs a system call.
async fn dial_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
        connected => connected?,
    }
    let stream = TcpStream::from_std(socket.into())?;
    poll_fn(|cx| stream.poll_write_ready(cx)).await?;
    match stream.try_io(Interest::ERROR, || stream.take_error()) {
        Ok(Some(error)) => Err(error),
        _ => Ok(stream),
    }
}

/// Says that no more will come, or what has broken the connection if no read or write has told that yet.
fn end(stream: &TcpStream) -> io::Result<()> {
    match shutdown(stream, Shutdown::Write) {
        // There is no connection any more, which is all that this says.
        Err(Errno::NOTCONN) => Err(stream.take_error()?.unwrap_or(Errno::NOTCONN.into())),
        ended => Ok(ended?),
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    /// A connection that is broken is no error: who has read an answer to its end does not mind.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
