//! The PROXY protocol: HAProxy tells us who the client is, and is told by us; whoever is not
//! believed, or says nothing, is turned away.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use outrigger_tests::backend::unused_port;
use outrigger_tests::haproxy::Haproxy;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// Answers with the address of the client, as HAProxy takes it from the header.
fn sources(address: SocketAddr, accept: &str) -> String {
    format!(
        "frontend sources\n    mode http\n    bind {address} {accept}\n    http-request return \
         status 200 content-type text/plain lf-string \"%[src] %[dst]\"\n"
    )
}

/// What comes back when this is sent from the given address.
async fn said(to: SocketAddr, from: [u8; 4], bytes: &[u8]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::from(from), 0)).unwrap();
    // Who is turned away at once may find out before it is connected.
    let Ok(mut stream) = socket.connect(to).await else { return String::new() };
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(secs(8), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "still open, so far {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

const REQUEST: &[u8] = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_backend_is_told_who_the_client_is() {
    for version in ["v1", "v2"] {
        let at = unused_port();
        let _haproxy = Haproxy::start(&sources(at, "accept-proxy"), &[at]).await;
        let sidecar = Sidecar::ready(&format!(
            "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\ncluster = \"api\"\n\
             [clusters.api]\nproxy_protocol = \"{version}\"\n\
             [clusters.api.health]\nprobe = \"http\"\ninterval = \"100ms\"\n\
             [clusters.api.discovery]\nsource = \"static\"\n\
             endpoints = [{{ address = \"{at}\" }}]\n"
        ))
        .await;
        // Its probes begin with a header, too, or HAProxy would not answer.
        sidecar.until_state("api", &at.to_string(), "ready", secs(5)).await;
        let answer = said(sidecar.web(), [127, 0, 0, 77], REQUEST).await;
        assert!(answer.ends_with("127.0.0.77 127.0.0.1"), "{version}: {answer}");
    }
}

/// A TCP listener that believes 127.0.0.2 and, for HAProxy, 127.0.0.1.
fn listener(protocol: &str, trusted: &str, backend: SocketAddr) -> String {
    format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\ncluster = \"api\"\n\
         proxy_protocol = true\ntrusted_cidrs = [\"{trusted}\"]\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{backend}\" }}]\n"
    )
}

#[tokio::test]
async fn haproxy_tells_us_who_the_client_is() {
    let at = unused_port();
    let _backend = Haproxy::start(&sources(at, "accept-proxy"), &[at]).await;
    let config = listener("tcp", "127.0.0.1/32", at) + "[clusters.api]\nproxy_protocol = \"v2\"\n";
    let sidecar = Sidecar::ready(&config).await;
    for send in ["send-proxy", "send-proxy-v2"] {
        let front = unused_port();
        let sections = format!(
            "listen front\n    mode tcp\n    bind {front}\n    server it {} {send}\n",
            sidecar.web()
        );
        let _haproxy = Haproxy::start(&sections, &[front]).await;
        let answer = said(front, [127, 0, 0, 78], REQUEST).await;
        assert!(answer.contains("127.0.0.78"), "{send}: {answer}");
    }
}

#[tokio::test]
async fn requests_name_the_client_that_was_announced() {
    let at = unused_port();
    let section = format!(
        "frontend heads\n    mode http\n    bind {at}\n    http-request return status 200 \
         content-type text/plain lf-string \"%[req.hdr(x-forwarded-for)]\"\n"
    );
    let _backend = Haproxy::start(&section, &[at]).await;
    let sidecar = Sidecar::ready(&listener("http", "127.0.0.2/32", at)).await;
    let header = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n";
    let answer = said(sidecar.web(), [127, 0, 0, 2], &[header, REQUEST].concat()).await;
    assert!(answer.ends_with("203.0.113.9"), "{answer}");
}

#[tokio::test]
async fn nobody_else_is_believed_and_nothing_is_guessed() {
    let at = unused_port();
    let _backend = Haproxy::start(&sources(at, ""), &[at]).await;
    let sidecar = Sidecar::ready(&listener("tcp", "127.0.0.2/32", at)).await;
    let line: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n";
    let v2 = |command: u8, rest: &[u8]| {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let head = [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, 0x11][..], &length, rest].concat();
        [head, REQUEST.to_vec()].concat()
    };
    let addresses = [203, 0, 113, 9, 198, 51, 100, 1, 0x12, 0x67, 0, 80];
    let trusted = [127, 0, 0, 2];
    // Whoever is believed is served: with a header of either version, and of nobody.
    let unknown = [b"PROXY UNKNOWN\r\n", REQUEST].concat();
    for good in [[line, REQUEST].concat(), unknown, v2(1, &addresses), v2(0, &addresses)] {
        let answer = said(sidecar.web(), trusted, &good).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{good:?}: {answer}");
    }
    let long = [b"PROXY TCP4 ", &[b'1'; 200][..], b"\r\n"].concat();
    let bad: [(&str, [u8; 4], Vec<u8>); 7] = [
        ("untrusted", [127, 0, 0, 3], [line, REQUEST].concat()),
        ("absent", trusted, REQUEST.to_vec()),
        ("too long", trusted, long),
        ("a bad length", trusted, v2(1, &addresses[..8])),
        ("a bad TLV", trusted, v2(1, &[&addresses[..], &[3, 0, 9, 1]].concat())),
        ("a bad checksum", trusted, v2(1, &[&addresses[..], &[3, 0, 4, 1, 2, 3, 4]].concat())),
        ("a bad command", trusted, v2(7, &addresses)),
    ];
    for (what, from, bytes) in &bad {
        let started = Instant::now();
        let answer = said(sidecar.web(), *from, bytes).await;
        assert_eq!(answer, "", "{what}");
        assert!(started.elapsed() < secs(2), "{what}: {:?}", started.elapsed());
    }
    // In pieces it is a header still, and whoever stops in the midst of it has three seconds.
    let started = Instant::now();
    assert_eq!(said(sidecar.web(), trusted, &line[..20]).await, "");
    assert!((secs(2)..secs(5)).contains(&started.elapsed()), "{:?}", started.elapsed());
    let ends = "outrigger_connection_ends_total{listener=\"web\",outrigger_cluster=\"\",\
                reason=\"bad_request\"} 8";
    // The connection may be closed a moment before it is counted.
    eventually("all eight are counted", secs(5), || async {
        sidecar.get("/metrics").await.1.contains(ends).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_has_no_more_connections_than_it_may_have() {
    let at = unused_port();
    let _backend = Haproxy::start(&sources(at, ""), &[at]).await;
    let sidecar = Sidecar::ready(&format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\ncluster = \"api\"\n\
         max_connections_per_source = 2\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{at}\" }}]\n"
    ))
    .await;
    let mut first = Raw::connect(sidecar.web()).await;
    let mut second = Raw::connect(sidecar.web()).await;
    for connection in [&mut first, &mut second] {
        connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    assert_eq!(said(sidecar.web(), [127, 0, 0, 1], REQUEST).await, "");
    // Others are not concerned.
    let other = said(sidecar.web(), [127, 0, 0, 9], REQUEST).await;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    drop(first);
    eventually("there is room again", secs(5), || async {
        let answer = said(sidecar.web(), [127, 0, 0, 1], REQUEST).await;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}
