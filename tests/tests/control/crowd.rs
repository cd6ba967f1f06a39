//! A thousand watchers of a thousand backends.

use futures_util::future::join_all;
use outrigger_tests::control::Caller;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::timeout;

use crate::{Known, config};

/// Bytes that the sidecar may grow by for them.
const GROWTH: usize = 100 << 20;

async fn watched_by_a_thousand(connections: usize) {
    let sidecar = Sidecar::start(&config(1_000)).await;
    let before = sidecar.process.memory();
    let watching = async {
        let mut watchers = Vec::new();
        for _ in 0..connections {
            let caller = Caller::of(&sidecar).await;
            for _ in 0..1_000 / connections {
                watchers.push((caller.watch().await.unwrap(), Known::default()));
            }
        }
        // Nobody has read yet: what waits for them is bounded, too.
        join_all(watchers.iter_mut().map(|(told, known)| known.take(told))).await;
        assert!(watchers.iter().all(|(_, known)| known.backends.len() == 1_000));
        for weight in [7, 8, 9] {
            sidecar.order("10.0.0.1:500", "weight", &format!("{{\"weight\": {weight}}}")).await;
            let told = watchers.iter_mut().map(|(told, known)| {
                known.until(told, move |all| {
                    all["10.0.0.1:500"].effective_weight == f64::from(weight)
                })
            });
            join_all(told).await;
        }
        assert!(watchers.iter().all(|(_, known)| known.full == 1));
    };
    let (peak, done) = sidecar.process.peak_memory(timeout(secs(120), watching)).await;
    done.expect("all are told");
    let grown = peak.saturating_sub(before);
    println!("{connections} connections: {} MiB", grown >> 20);
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_watchers_over_few_connections_are_cheap() {
    watched_by_a_thousand(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_watchers_with_a_connection_each_are_cheap() {
    watched_by_a_thousand(1_000).await;
}
