//! WebSocket through a client and a server that know nothing of a sidecar between them.

use futures_util::{SinkExt, StreamExt};
use outrigger_tests::backend::config;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

/// A server that sends every message back.
async fn echo() -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_binary() || message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    (address, serving)
}

async fn connect(sidecar: &Sidecar) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(sidecar.web()).await.unwrap();
    let (socket, answer) = client_async("ws://chat.example/echo", stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    socket
}

async fn outcome(sidecar: &Sidecar, outcome: &str) -> f64 {
    sidecar.metric("outrigger_outcomes_total", &[("outcome", outcome)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_of_all_kinds_pass_and_so_does_the_close() {
    let (address, serving) = echo().await;
    let sidecar = Sidecar::start(&config(&[address], "")).await;
    let mut socket = connect(&sidecar).await;
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::binary(vec![0; 125]),
        Message::binary(vec![1; 126]),
        Message::binary(vec![2; 65_536]),
    ] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::Ping("beat".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong("beat".into()));
    assert_eq!(outcome(&sidecar, "success").await, 0.0, "it counts when it ends");
    let close = CloseFrame { code: CloseCode::Away, reason: "bye".into() };
    socket.close(Some(close.clone())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(close)));
    assert!(socket.next().await.is_none());
    drop(socket);
    serving.await.unwrap();
    eventually("the tunnel is a success and its request counts", secs(5), || async {
        let requests = sidecar.metric("outrigger_requests_total", &[("code", "101")]).await;
        (outcome(&sidecar, "success").await == 1.0 && requests == 1.0).then_some(())
    })
    .await;
    // It lasted as long as two people had something to say; that says nothing about a backend.
    assert_eq!(sidecar.metric("outrigger_request_duration_seconds_count", &[]).await, 0.0);
}

/// Seconds of processor time that a process has used.
fn processor_time(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// 64 MiB there and back; 1 GiB with `OUTRIGGER_LONG=1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_passes_whole_and_in_order() {
    const MESSAGE: usize = 64 << 10;
    let long = std::env::var_os("OUTRIGGER_LONG").is_some_and(|long| long == "1");
    let bytes: usize = if long { 1 << 30 } else { 64 << 20 };
    let messages = bytes / MESSAGE;
    let (address, serving) = echo().await;
    let sidecar = Sidecar::start(&config(&[address], "")).await;
    let message = |number: usize| {
        let mut message = vec![(number % 251) as u8; MESSAGE];
        message[..8].copy_from_slice(&number.to_be_bytes());
        Bytes::from(message)
    };
    let (mut sender, mut receiver) = connect(&sidecar).await.split();
    let before = processor_time(sidecar.process.pid());
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for number in 0..messages {
            sender.send(Message::Binary(message(number))).await.unwrap();
        }
        sender
    });
    for number in 0..messages {
        let received = tokio::time::timeout(secs(10), receiver.next()).await;
        let received = received.expect("it goes on").unwrap().unwrap();
        assert!(received == Message::Binary(message(number)), "message {number} of {messages}");
    }
    let took = start.elapsed().as_secs_f64();
    let used = processor_time(sidecar.process.pid()) - before;
    let mib = (bytes >> 20) as f64;
    println!(
        "{mib} MiB each way in {took:.2} s: {:.0} MiB/s each way, {used:.2} CPU s",
        mib / took
    );

    sending.await.unwrap().close().await.unwrap();
    while receiver.next().await.is_some() {}
    serving.await.unwrap();
    for direction in ["to_backend", "from_backend"] {
        let moved = sidecar.metric("outrigger_bytes_total", &[("direction", direction)]).await;
        let frames = (messages * 16) as f64;
        assert!(moved >= bytes as f64 && moved <= bytes as f64 + frames, "{direction}: {moved}");
    }
}
