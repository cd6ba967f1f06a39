//! From the app's connection to one to a backend.

use outrigger_tests::backend::unused_port;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::world::{
    Server, assert_repeats, assert_turned_away, config, ends, greeted, outcomes, until_ends,
};

/// The passive detector needs three of anything here.
const THREE: &str = "[clusters.api.outlier]\nconsecutive = 3\n[runtime]\nworkers = 1\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_refuses_costs_nobody_anything() {
    let (alive, dead) = (Server::greeting().await, unused_port());
    let sidecar = Sidecar::ready(&config(&[dead, alive.address], "")).await;
    for _ in 0..20 {
        let (mut app, by) = greeted(sidecar.web()).await.expect("somebody is there");
        assert_eq!(by, alive.name());
        assert_repeats(&mut app).await;
    }
    sidecar.until_state("api", &dead.to_string(), "ejected", secs(2)).await;
    until_ends(&sidecar, "finished", 20).await;
    let refused = outcomes(&sidecar, &dead.to_string(), "connect_failed").await;
    assert!(refused >= 3.0, "{refused}");
    let retried = [("result", "success")];
    assert_eq!(sidecar.metric("outrigger_retries_total", &retried).await, refused);
    assert_eq!(sidecar.metric("outrigger_errors_total", &[]).await, 0.0);
}

/// Nothing was said, so that each could have been asked instead of the first; more than
/// `retry.attempts` are, since that costs nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_that_refuse_are_passed_over_in_one_connection() {
    let alive = Server::greeting().await;
    let mut all = [(); 5].map(|()| unused_port()).to_vec();
    all.push(alive.address);
    let sidecar = Sidecar::ready(&config(&all, "")).await;
    for _ in 0..10 {
        let (_app, by) = greeted(sidecar.web()).await.expect("somebody is there");
        assert_eq!(by, alive.name());
    }
}

/// By a reset, or by a close: whoever stands in for a server that is gone does that. The app is not
/// told that the server had nothing to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_leaves_before_it_says_a_word_is_ejected() {
    for bad in [Server::leaving(true).await, Server::leaving(false).await] {
        for speaks in [false, true] {
            let good = Server::greeting().await;
            let sidecar = Sidecar::ready(&config(&[bad.address, good.address], THREE)).await;
            let mut failed = 0;
            while failed < 3 {
                failed += usize::from(!is_answered(&sidecar, speaks).await);
            }
            sidecar.until_state("api", &bad.name(), "ejected", secs(2)).await;
            let resets = outcomes(&sidecar, &bad.name(), "reset").await;
            assert_eq!(resets, 3.0, "speaks: {speaks}");
            for _ in 0..10 {
                assert_eq!(greeted(sidecar.web()).await.expect("somebody is there").1, good.name());
            }
        }
    }
}

/// Whether an app that says something at once, or nothing, hears anything.
async fn is_answered(sidecar: &Sidecar, speaks: bool) -> bool {
    // It may have been reset before it knows that it is connected, or before it speaks.
    let Ok(stream) = TcpStream::connect(sidecar.web()).await else { return false };
    let mut app = Raw::from(stream);
    if speaks {
        let _ = app.try_send("hello").await;
    }
    app.line().await.is_some()
}

/// As in MySQL, SMTP or SSH: an app that waits to be greeted sends nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let server = Server::greeting().await;
    let sidecar = Sidecar::ready(&config(&[server.address], "")).await;
    let mut took = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        greeted(sidecar.web()).await.expect("somebody is there");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!("median {:?}, longest {:?}", took[10], took[20]);
    // Whoever looks at what the app says first takes a second and more to give that up.
    assert!(took[10] < millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_comes_before_any_backend_is_told_at_once_and_who_comes_later_is_served() {
    let interval = secs(1);
    let check = "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"1s\"\n";
    for check in ["", check] {
        let addresses = [unused_port(), unused_port()];
        let sidecar = Sidecar::ready(&config(&addresses, check)).await;
        let begun = Instant::now();
        for early in 1..=10 {
            assert_turned_away(sidecar.web()).await;
            until_ends(&sidecar, "connect_failed", early).await;
        }
        assert!(begun.elapsed() < secs(3), "{:?}", begun.elapsed());
        let told = [("reason", "connect_failed")];
        assert_eq!(sidecar.metric("outrigger_errors_total", &told).await, 10.0);
        sleep(interval).await;
        let _servers =
            [Server::greeting_at(addresses[0]).await, Server::greeting_at(addresses[1]).await];
        let since = Instant::now();
        eventually("somebody is there", secs(5), || greeted(sidecar.web())).await;
        let took = since.elapsed();
        println!("{check}: {took:?}");
        assert!(took <= interval + secs(1), "{check}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_panic_nobody_who_fails_the_checks_is_asked() {
    let extra = "panic_threshold = \"0%\"\n\
         [clusters.api.health]\nprobe = \"tcp\"\ninterval = \"200ms\"\nfall = 1\n";
    let sidecar = Sidecar::ready(&config(&[unused_port()], extra)).await;
    assert_turned_away(sidecar.web()).await;
    until_ends(&sidecar, "no_eligible_backend", 1).await;
    assert_eq!(ends(&sidecar, "connect_failed").await, 0.0);
}
