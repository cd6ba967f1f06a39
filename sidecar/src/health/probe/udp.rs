//! `udp`: a datagram is sent, and an answer judged, or the lack of a refusal.
//!
//! The socket is connected, so that the kernel reports an ICMP refusal to it and drops what
//! others send.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::excerpt;
use crate::config::UdpProbe;

/// Where no answer is expected, a refusal is waited for this long: it comes within one round
/// trip of the network, and half the circumference of the earth and back is 0.3 s.
pub(super) const LONGEST_SILENCE: Duration = Duration::from_millis(500);

/// What is read of an answer that is only looked at for its beginning.
const SHOWN: usize = 64;

/// `wait` is for a refusal when silence passes. Without an answer it is the round trip, too.
pub(super) async fn run(
    address: SocketAddr,
    probe: &UdpProbe,
    wait: Duration,
) -> Result<Duration, String> {
    let socket = connect(address).await.map_err(|error| format!("connect: {error}"))?;
    let asked = Instant::now();
    socket.send(&probe.send).await.map_err(|error| format!("send: {error}"))?;
    let mut buffer = vec![0; SHOWN.max(probe.expect.as_ref().map_or(0, Vec::len))];
    let answer = match &probe.expect {
        Some(_) => Some(socket.recv(&mut buffer).await),
        None => timeout(wait, socket.recv(&mut buffer)).await.ok(),
    };
    let round_trip = asked.elapsed();
    match answer {
        Some(Ok(length)) => judge(probe.expect.as_deref(), &buffer[..length])?,
        Some(Err(error)) => return Err(refusal(&error)),
        None => {}
    }
    Ok(round_trip)
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Whether an answer begins as it should: what follows may be a time or a counter.
fn judge(expected: Option<&[u8]>, answer: &[u8]) -> Result<(), String> {
    match expected {
        Some(expected) if !answer.starts_with(expected) => {
            Err(format!("answer {} does not begin with {}", excerpt(answer), excerpt(expected)))
        }
        _ => Ok(()),
    }
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused: nobody is bound to this port".into(),
        _ => format!("receive: {error}"),
    }
}
