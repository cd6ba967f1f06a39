//! The access log: who was connected to whom, and why that ended.

use outrigger_tests::backend::unused_port;
use outrigger_tests::haproxy::Haproxy;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::Value;
use tokio::net::UdpSocket;

#[tokio::test]
async fn connections_and_sessions_are_written_down() {
    let at = unused_port();
    let section = format!(
        "frontend it\n    mode http\n    bind {at}\n    http-request return status 200 \
         content-type text/plain string \"hello\"\n"
    );
    let _backend = Haproxy::start(&section, &[at]).await;
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let echo_at = echo.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let sidecar = Sidecar::ready(&format!(
        "[log]\naccess = {log:?}\n\
         [listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\ncluster = \"api\"\n\
         [listeners.time]\nlisten = \"127.0.0.1:0\"\nprotocol = \"udp\"\ncluster = \"time\"\n\
         max_replies = 1\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{at}\" }}]\n\
         [clusters.time.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{echo_at}\" }}]\n"
    ))
    .await;
    let mut app = Raw::connect(sidecar.web()).await;
    let us = app.stream.local_addr().unwrap().to_string();
    app.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().text(), "hello");
    drop(app);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"what?", sidecar.listener("time")).await.unwrap();
    let mut datagram = [0; 16];
    let (_, session) = echo.recv_from(&mut datagram).await.unwrap();
    echo.send_to(b"that", session).await.unwrap();

    let lines: Vec<Value> = eventually("two lines are written", secs(5), || async {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() == 2).then_some(lines)
    })
    .await;
    let of = |protocol: &str| lines.iter().find(|line| line["protocol"] == protocol).unwrap();
    let tcp = of("tcp");
    assert_eq!((&tcp["listener"], &tcp["cluster"]), (&"web".into(), &"api".into()));
    assert_eq!((&tcp["client"], &tcp["end"]), (&us.into(), &"finished".into()));
    assert_eq!((&tcp["backend"], &tcp["bytes_to_backend"]), (&at.to_string().into(), &18.into()));
    assert!(tcp["bytes_from_backend"].as_u64().unwrap() > 5, "{tcp}");
    let udp = of("udp");
    assert_eq!((&udp["end"], &udp["backend"]), (&"replies".into(), &echo_at.to_string().into()));
    assert_eq!((&udp["bytes_to_backend"], &udp["bytes_from_backend"]), (&5.into(), &4.into()));
}
