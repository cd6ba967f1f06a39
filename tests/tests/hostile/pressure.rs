//! One side that stops: what the sidecar holds for it, and for how long.

use std::net::{Ipv4Addr, SocketAddr};

use outrigger_tests::backend::config;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Bytes that the kernel holds for a socket: sent and not received by the other side, and
/// received and not read.
fn queues(local: SocketAddr, remote: SocketAddr) -> (usize, usize) {
    let wanted = [local, remote].map(hexadecimal);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut sockets = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let socket = sockets.find(|fields| fields[1..3] == wanted).expect("the socket is there");
    let (out, unread) = socket[4].split_once(':').unwrap();
    let number = |text| usize::from_str_radix(text, 16).unwrap();
    (number(out), number(unread))
}

/// As /proc/net/tcp has it.
fn hexadecimal(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
}

/// Two connections that the sidecar relays between, from one that writes to one that does not
/// read.
struct Line<'a> {
    writer: &'a TcpStream,
    reader: &'a TcpStream,
}

impl Line<'_> {
    /// Of what was written, that which lies in no kernel buffer on the way: the sidecar has it.
    fn held(&self, written: usize) -> usize {
        let ends = |stream: &TcpStream| (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let ((writer, entrance), (reader, exit)) = (ends(self.writer), ends(self.reader));
        let (under_way, _) = queues(writer, entrance);
        let (_, arrived) = queues(entrance, writer);
        let (left, _) = queues(exit, reader);
        let (_, received) = queues(reader, exit);
        written - under_way - arrived - left - received
    }
}

/// Writes until nothing more is taken; how much that was.
async fn write_until_stuck(stream: &mut TcpStream) -> usize {
    let piece = vec![b'x'; 64 << 10];
    let mut written = 0;
    while let Ok(wrote) = timeout(millis(1000), stream.write(&piece)).await {
        written += wrote.unwrap();
        assert!(written < 64 << 20, "there is no end to what is taken");
    }
    written
}

/// Reads up to the end of a head; how long what came is.
async fn read_head(stream: &mut TcpStream) -> usize {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0);
    }
    head.len()
}

/// The buffer of one direction, and a head that is written anew.
const MOST: usize = (64 << 10) + 512;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_does_not_read_stops_its_backend_at_64_kib() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let sidecar = Sidecar::start(&config(&[listener.local_addr().unwrap()], "")).await;
    let mut app = TcpStream::connect(sidecar.web()).await.unwrap();
    app.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    read_head(&mut backend).await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
    backend.write_all(head).await.unwrap();
    let written = write_until_stuck(&mut backend).await;
    let held = Line { writer: &backend, reader: &app }.held(head.len() + written);
    println!("{written} bytes were taken, the sidecar holds {held}");
    assert!(held <= MOST, "{held}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_does_not_read_stops_its_app_at_64_kib() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let sidecar = Sidecar::start(&config(&[listener.local_addr().unwrap()], "")).await;
    let mut app = TcpStream::connect(sidecar.web()).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    app.write_all(head).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let relayed = read_head(&mut backend).await;
    let written = write_until_stuck(&mut app).await;
    let held = Line { writer: &app, reader: &backend }.held(head.len() + written);
    println!("{written} bytes were taken, the sidecar holds {}", held - relayed);
    assert!(held - relayed <= MOST, "{held}");
}

/// A backend that answers at once and then waits for the rest of the request. It must not wait
/// for what will never come: whatever is wrong with the rest, both sides are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_goes_wrong_behind_the_head_of_its_answer_ends_both_sides() {
    // What the app sends behind `hello`, and whether it then leaves.
    let cases = [("", false), ("", true), ("zz\r\n", false), ("5\r\nhelloX", false)];
    for (rest, leaves) in cases {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Only the silence is for a timeout to end.
        let silent = rest.is_empty() && !leaves;
        let patience = if silent { "timeouts = { stream_idle = \"500ms\" }" } else { "" };
        let config = config(&[listener.local_addr().unwrap()], patience);
        let sidecar = Sidecar::start(&config).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        app.send("5\r\nhello\r\n").await;
        let (mut backend, _) = listener.accept().await.unwrap();
        read_head(&mut backend).await;
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
        backend.write_all(answer).await.unwrap();
        assert_eq!(app.head().await.unwrap().status, 200);
        app.send(rest).await;
        if leaves {
            app.stream.shutdown().await.unwrap();
        }
        let what = format!("{rest:?}, leaves: {leaves}");
        let mut received = Vec::new();
        let ended = timeout(secs(3), backend.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "{what}: the backend waits for ever");
        assert!(!received.ends_with(b"0\r\n\r\n"), "{what}: the request looks whole");
        let answer = app.rest().await;
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{what}: the answer looks whole");
        eventually(&format!("{what}: nothing is in flight"), secs(1), || async {
            let cluster = sidecar.cluster("api").await;
            (cluster["backends"][0]["in_flight"] == 0).then_some(())
        })
        .await;
    }
}
