//! The sidecar's own end: what is open goes on for a while, and nobody takes a cut for an end.

use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::world::{Server, assert_repeats, assert_reset, config, greeted};

async fn world(grace: &str) -> (Server, Sidecar, Raw) {
    let server = Server::greeting().await;
    let runtime = format!("[runtime]\nshutdown_grace = \"{grace}\"\n");
    let sidecar = Sidecar::ready(&config(&[server.address], &runtime)).await;
    let (app, _) = greeted(sidecar.web()).await.expect("somebody is there");
    (server, sidecar, app)
}

async fn until_refused(sidecar: &Sidecar) {
    eventually("nobody is let in any more", secs(5), || async {
        let error = TcpStream::connect(sidecar.web()).await.err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_go_on_and_the_last_one_ends_it() {
    let (_server, mut sidecar, mut app) = world("20s").await;
    sidecar.process.signal(Signal::TERM);
    eventually("it is not ready", secs(5), || async {
        (sidecar.get("/readyz").await.0 == 503).then_some(())
    })
    .await;
    // Who has not heard of it is still taken.
    let (mut late, _) = greeted(sidecar.web()).await.expect("it is still taken");
    until_refused(&sidecar).await;
    for app in [&mut app, &mut late] {
        assert_repeats(app).await;
        app.finish().await;
        assert!(app.is_closed().await);
    }
    assert_eq!(sidecar.process.exit(secs(5)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_left_after_the_grace_is_cut_and_not_ended() {
    let (_server, mut sidecar, mut app) = world("2s").await;
    let signalled = Instant::now();
    sidecar.process.signal(Signal::TERM);
    until_refused(&sidecar).await;
    assert_repeats(&mut app).await;
    assert_reset(&mut app).await;
    let took = signalled.elapsed();
    assert!(took >= millis(1900) && took < secs(4), "{took:?}");
    assert_eq!(sidecar.process.exit(secs(5)).await, 1);
}

/// The backend must not take what broke off for whole either.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_backend_learns_of_a_cut_too() {
    let backend = outrigger_tests::backend::ByHand::listen().await;
    let runtime = "[runtime]\nshutdown_grace = \"1s\"\n";
    let mut sidecar = Sidecar::start(&config(&[backend.address], runtime)).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send("half of a mess").await;
    let mut served = backend.accept().await;
    assert_eq!(served.exactly(14).await, b"half of a mess");
    sidecar.process.signal(Signal::TERM);
    assert_reset(&mut served).await;
    assert_eq!(sidecar.process.exit(secs(5)).await, 1);
}
