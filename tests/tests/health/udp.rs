//! Probes of kind `udp`.

use std::net::{Ipv4Addr, SocketAddr};

use outrigger_tests::sidecar::Sidecar;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::{checked, reason, until_probe_says};

/// Answers each datagram with `before` and what came; ends with the test's runtime.
async fn echo(before: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&[before, &buffer[..length]].concat(), from).await;
        }
    });
    (address, task)
}

/// Bound, but without a word.
async fn mute() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

async fn nobody() -> SocketAddr {
    mute().await.local_addr().unwrap()
}

const REFUSED: &str = "refused: nobody is bound to this port";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_an_expected_answer_silence_passes_and_a_refusal_fails() {
    let (mute, closed, (talkative, _task)) = (mute().await, nobody().await, echo(b"").await);
    let mute = mute.local_addr().map(|address| (address, mute)).unwrap();
    let all = [mute.0, closed, talkative];
    let sidecar = Sidecar::ready(&checked(&all, "probe = \"udp\"\n")).await;
    assert_eq!(reason(&sidecar, mute.0).await, "");
    assert_eq!(reason(&sidecar, talkative).await, "");
    assert_eq!(reason(&sidecar, closed).await, REFUSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_expected_answer_is_judged_by_its_beginning() {
    let ((right, _right), (wrong, _wrong)) = (echo(b"\x00pong").await, echo(b"go away\n").await);
    let (mute, closed) = (mute().await, nobody().await);
    let silent = mute.local_addr().unwrap();
    let keys = "probe = \"udp\"\ntimeout = \"400ms\"\nsend = \"ping\"\nexpect = \"hex:00706F6e67\"";
    let sidecar = Sidecar::ready(&checked(&[right, wrong, silent, closed], keys)).await;
    assert_eq!(reason(&sidecar, right).await, "");
    let said = reason(&sidecar, wrong).await;
    assert_eq!(said, r#"answer "go away\nping" does not begin with "\x00pong""#);
    assert_eq!(reason(&sidecar, silent).await, "no answer within 400ms");
    assert_eq!(reason(&sidecar, closed).await, REFUSED);
    let mut buffer = [0; 64];
    let (length, _) = mute.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..length], b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_goes_is_refused_and_one_that_returns_passes() {
    let (address, task) = echo(b"").await;
    let keys = "probe = \"udp\"\ninterval = \"100ms\"\nsend = \"ping\"\nexpect = \"ping\"";
    let sidecar = Sidecar::ready(&checked(&[address], keys)).await;
    until_probe_says(&sidecar, "").await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until_probe_says(&sidecar, REFUSED).await;
    let socket = UdpSocket::bind(address).await.unwrap();
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
    socket.send_to(&buffer[..length], from).await.unwrap();
    until_probe_says(&sidecar, "").await;
}
