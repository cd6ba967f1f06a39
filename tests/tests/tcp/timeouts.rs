//! Connections that end for their age or their silence.

use std::time::Duration;

use futures_util::future::join_all;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::{Instant, interval};

use super::world::{Server, assert_repeats, assert_reset, config, greeted, until_ends};

/// What a sweep, and a busy machine, may add.
const LATE: Duration = millis(800);

async fn world(timeouts: &str) -> (Server, Sidecar) {
    let server = Server::greeting().await;
    let extra = format!("[clusters.api.timeouts]\n{timeouts}\n");
    let sidecar = Sidecar::ready(&config(&[server.address], &extra)).await;
    (server, sidecar)
}

async fn connection(sidecar: &Sidecar) -> Raw {
    greeted(sidecar.web()).await.expect("somebody is there").0
}

/// Waits for a reset, and sees to it that it comes so long after this, and not much later.
async fn assert_reset_after(app: &mut Raw, since: Instant, timeout: Duration) {
    assert_reset(app).await;
    let took = since.elapsed();
    assert!(took + millis(100) >= timeout && took <= timeout + LATE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_silent_for_too_long_is_closed_and_who_is_not_stays() {
    let (_server, sidecar) = world("idle = \"1s\"").await;
    let (mut silent, mut busy) = (connection(&sidecar).await, connection(&sidecar).await);
    let begun = Instant::now();
    let talk = async {
        let mut beats = interval(millis(250));
        while begun.elapsed() < secs(3) {
            beats.tick().await;
            assert_repeats(&mut busy).await;
        }
        Instant::now()
    };
    let ((), last_word) = tokio::join!(assert_reset_after(&mut silent, begun, secs(1)), talk);
    assert_reset_after(&mut busy, last_word, secs(1)).await;
    until_ends(&sidecar, "idle", 2).await;
}

/// Shorter or longer than that of those who could both go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_half_closed_connection_has_a_time_of_its_own() {
    for (idle, half_closed) in [("1h", secs(1)), ("500ms", secs(2))] {
        // It says nothing more, and does not end.
        let held = async |stream: tokio::net::TcpStream| {
            let _held = stream;
            std::future::pending::<()>().await;
        };
        let server = Server::at((std::net::Ipv4Addr::LOCALHOST, 0).into(), held).await;
        let timeouts = format!(
            "[clusters.api.timeouts]\nidle = \"{idle}\"\nhalf_closed = \"{}ms\"\n",
            half_closed.as_millis()
        );
        let sidecar = Sidecar::ready(&config(&[server.address], &timeouts)).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send("the last word").await;
        app.finish().await;
        assert_reset_after(&mut app, Instant::now(), half_closed).await;
        until_ends(&sidecar, "idle", 1).await;
    }
}

/// However busy they are; and those that came together do not go together.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_are_too_old_are_closed_one_by_one() {
    let age = secs(4);
    let (_server, sidecar) = world("max_age = \"4s\"").await;
    let connections = join_all((0..50).map(async |_| {
        let begun = Instant::now();
        let mut app = connection(&sidecar).await;
        let mut beats = interval(millis(50));
        let ended = loop {
            tokio::select! {
                _ = beats.tick() => drop(app.try_send("x\n").await),
                line = app.line() => match line {
                    Some(_) => {}
                    None => break begun.elapsed(),
                }
            }
        };
        assert!(ended + millis(100) >= age.mul_f64(0.9) && ended <= age + LATE, "{ended:?}");
        ended
    }));
    let ended = connections.await;
    let (first, last) = (ended.iter().min().unwrap(), ended.iter().max().unwrap());
    println!("between {first:?} and {last:?}");
    // Drawn from a tenth of the age.
    assert!(*last - *first > millis(150), "{first:?}..{last:?}");
    until_ends(&sidecar, "max_age", 50).await;
}
