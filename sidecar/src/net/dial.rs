//! Connecting to an address, and noticing when what is there vanishes.
//!
//! A machine that loses its power or its cable says nothing, not even that it is gone, and by
//! default the kernel believes in it for a quarter of an hour. So it is asked when it has been
//! silent, and given up when it acknowledges nothing. A process that is slow or stopped is not
//! mistaken for that, since its kernel goes on answering.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

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
        // A unix socket has no reset; its close is all there is to see.
        if let Self::Tcp(stream) = self {
            let _ = stream.set_zero_linger();
        }
    }

    /// From now on the peer is given up after so much silence; nobody vanishes from a unix socket.
    pub fn set_patience(&self, patience: Patience) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => Ok(sockopt::set_tcp_user_timeout(stream, patience.millis())?),
            Self::Unix(_) => Ok(()),
        }
    }
}

/// Whether this is the kernel giving up a peer that has vanished, not the peer closing.
pub fn has_vanished(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), TimedOut | HostUnreachable | NetworkUnreachable)
}

/// Connects within `timeout`; `None` waits as long as the kernel does.
pub async fn connect(
    address: &Address,
    timeout: Option<Duration>,
    patience: Patience,
) -> io::Result<Stream> {
    let connecting = async {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Requests are written whole; waiting for more to send only delays them.
                stream.set_nodelay(true)?;
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, ASKED_AFTER)?;
                sockopt::set_tcp_keepintvl(&stream, ASKED_EVERY)?;
                let stream = Stream::Tcp(stream);
                stream.set_patience(patience)?;
                Ok(stream)
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    };
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, connecting).await?,
        None => connecting.await,
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
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

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
