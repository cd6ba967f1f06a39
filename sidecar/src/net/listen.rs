//! Listening sockets: bound once, accepted from by every thread that serves them.
//!
//! A sidecar serves one app over few connections, so the kernel's hashing would leave a worker
//! idle, and `SO_REUSEPORT` would let a second sidecar share the port unnoticed. So there is one
//! socket per listener, and workers even the connections out between themselves.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::time::Duration;

use socket2::TcpKeepalive;
use tokio::net::{TcpListener, UnixListener};

use super::Address;
use super::dial::Stream;

/// Connections that the kernel holds for us. It takes less where its own limit is lower.
const BACKLOG: i32 = 4096;

/// How long accepting rests when the process is out of descriptors or memory: long enough to
/// cost nothing, short enough to go unnoticed once it has some again.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A client that was silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A bound socket that is not yet part of any runtime.
#[derive(Debug)]
pub struct Socket(Kind<std::net::TcpListener, std::os::unix::net::UnixListener>);

#[derive(Debug)]
enum Kind<T, U> {
    Tcp(T),
    Unix(U),
}

/// A socket as one worker accepts from it.
#[derive(Debug)]
pub struct Acceptor(Kind<TcpListener, UnixListener>);

impl Socket {
    /// Binds `address`. The socket file of a sidecar that is gone is replaced.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let domain = socket2::Domain::for_address(*address);
                let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
                // A restart need not wait for the connections of the last process to time out.
                socket.set_reuse_address(true)?;
                socket.set_nonblocking(true)?;
                // What is accepted inherits both: what is written is written whole, so that waiting for
                // more only delays it, and a client that has vanished is found out.
                socket.set_tcp_nodelay(true)?;
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
                socket.bind(&(*address).into())?;
                socket.listen(BACKLOG)?;
                Ok(Self(Kind::Tcp(socket.into())))
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self(Kind::Unix(listener)))
            }
        }
    }

    /// As `bind`, of a unix socket whose file has this mode from the first moment on.
    pub fn bind_with_mode(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // The file gets the mode of the socket, less what this process masks.
        rustix::fs::fchmod(&socket, mode.into())?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        socket.listen(BACKLOG)?;
        Ok(Self(Kind::Unix(socket.into())))
    }

    /// The address it is bound to, with the port that the kernel chose for port 0.
    pub fn address(&self) -> io::Result<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Kind::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(Into::into);
                Ok(Address::Unix(path.unwrap_or_default()))
            }
        }
    }

    /// The same socket once more, for another worker.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Kind::Tcp(listener) => Kind::Tcp(listener.try_clone()?),
            Kind::Unix(listener) => Kind::Unix(listener.try_clone()?),
        }))
    }

    /// Makes it part of the runtime of this thread.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(Acceptor(match self.0 {
            Kind::Tcp(listener) => Kind::Tcp(TcpListener::from_std(listener)?),
            Kind::Unix(listener) => Kind::Unix(UnixListener::from_std(listener)?),
        }))
    }
}

/// Removes a socket file that nobody listens on; any other file is left, for bind to refuse.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && StdUnixStream::connect(path).is_err_and(refused) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Acceptor {
    /// The next connection. No error ends this: what is wrong with one connection is its own
    /// affair, and what is wrong with the process passes.
    pub async fn accept(&self) -> Accepted {
        loop {
            let accepted = match &self.0 {
                Kind::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Accepted {
                    stream: Stream::Tcp(stream),
                    peer: Some(canonical(peer)),
                }),
                Kind::Unix(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| Accepted { stream: Stream::Unix(stream), peer: None }),
            };
            match accepted {
                Ok(accepted) => return accepted,
                Err(error) if is_exhausted(&error) => {
                    tracing::warn!(%error, "cannot accept, trying again");
                    tokio::time::sleep(EXHAUSTED).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
            }
        }
    }
}

/// The same place as its family of addresses has it: on a socket for both versions of IP a client of the
/// older one looks like one of the newer.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A connection and who opened it.
#[derive(Debug)]
pub struct Accepted {
    pub stream: Stream,
    /// `None`: a unix socket, which tells nobody apart.
    pub peer: Option<SocketAddr>,
}

/// Whether the process or the machine lacks something, rather than the connection.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_socket_has_the_mode_it_is_to_have() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        for mode in [0o600, 0o666, 0o660] {
            let socket = Socket::bind_with_mode(&path, mode).unwrap();
            let file = std::fs::metadata(&path).unwrap();
            assert_eq!(file.permissions().mode() & 0o777, mode);
            StdUnixStream::connect(&path).unwrap();
            assert!(Socket::bind_with_mode(&path, mode).is_err(), "somebody listens there");
            drop(socket);
        }
    }
}
