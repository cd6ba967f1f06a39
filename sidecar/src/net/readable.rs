//! What a task only reads.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime of this thread say when there is something to read, and no more than that. Asked for
/// both, as the runtime's own sockets do, it would also wake for each datagram that has left one.
pub(super) fn readable(descriptor: impl Into<OwnedFd>) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "for types that may lie about their descriptor; this owns it")]
    AsyncFd::with_interest(descriptor.into(), Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn that_there_is_room_to_write_is_not_said() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let socket = readable(socket).unwrap();
        let _ = socket.readable().await.unwrap();
        assert!(socket.writable().now_or_never().is_none());
    }
}
