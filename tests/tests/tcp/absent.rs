//! A backend whose machine vanishes: its connections stay open, and nobody is behind them.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::future::join_all;
use outrigger_tests::backend::ByHand;
use outrigger_tests::millis;
use outrigger_tests::raw::Raw;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::vanishing::cut;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, interval, timeout};

use super::world::{config, outcomes, until_ends};

/// How long the kernel may believe in it, with one question more.
const BELIEVED: Duration = secs(63);
/// What the kernel's timers and a busy machine may add.
const LATE: Duration = secs(4);

/// Whether the app says much, little, or nothing to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_to_it_end_within_a_minute() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let mut app = Raw::connect(sidecar.web()).await;
        let mut served = backend.accept().await;
        app.send("hello").await;
        assert_eq!(served.exactly(5).await, b"hello");
        served.send("hello").await;
        assert_eq!(app.exactly(5).await, b"hello");
        pairs.push((app, served));
    }
    // What it has said is acknowledged, or its kernel would go on sending, and so show that it is
    // there: the sidecar is asked once more whether all is well.
    sidecar.until_ready().await;
    let vanished = Instant::now();
    pairs.iter().for_each(|(_, served)| cut(&served.stream));
    let ended =
        join_all(pairs.iter_mut().zip([64 << 10, 1, 0]).map(|((app, _), piece)| async move {
            let ended = timeout(BELIEVED + LATE, talk(app, piece)).await;
            println!("{piece} bytes at a time: ended after {:?}", vanished.elapsed());
            ended.unwrap_or_else(|_| panic!("{piece} bytes at a time: it does not end"))
        }));
    for kind in ended.await {
        assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&kind), "{kind}");
    }
    until_ends(&sidecar, "backend_reset", 3).await;
    assert_eq!(outcomes(&sidecar, &backend.address.to_string(), "timeout").await, 3.0);
}

/// Says so much four times a second, as long as there is room, until it is told of an end.
async fn talk(app: &mut Raw, piece: usize) -> ErrorKind {
    let (mut read, write) = app.stream.split();
    let mut beats = interval(millis(250));
    let said = vec![b'x'; piece];
    let mut heard = [0; 1];
    let ended = read.read(&mut heard);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => return ended.expect_err("it breaks off").kind(),
            _ = beats.tick() => match write.try_write(&said) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return error.kind(),
                _ => {}
            }
        }
    }
}
