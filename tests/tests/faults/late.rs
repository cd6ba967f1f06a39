//! Backends that come up after their sidecar.

use std::time::Duration;

use outrigger_tests::backend::{Backend, config, unused_port};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};
use tokio::time::{Instant, sleep};

const INTERVAL: Duration = secs(1);

fn check(rise: u32) -> String {
    format!("[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"1s\"\nrise = {rise}\n")
}

/// With panic, which tries those that failed, and without, after as many probes as they need.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_success_comes_within_an_interval_and_a_second() {
    let cases = [
        ("", check(2), "connect_failed"),
        ("panic_threshold = \"0%\"\n", check(1), "no_eligible_backend"),
        ("", String::new(), "connect_failed"),
    ];
    for (extra, check, reason) in cases {
        let addresses = [unused_port(), unused_port()];
        let sidecar = Sidecar::ready(&config(&addresses, &format!("{extra}{check}"))).await;
        // Whatever its failures lead to has happened.
        for _ in 0..20 {
            let mut client = client::Client::connect(sidecar.web()).await.unwrap();
            let answer = client.get("/").await.unwrap();
            assert_eq!(answer.headers()["x-outrigger-error"], reason);
        }
        sleep(INTERVAL).await;
        let _backends = [Backend::at(addresses[0]).await, Backend::at(addresses[1]).await];
        let since = Instant::now();
        eventually("there is an answer", secs(5), || async {
            (client::get(sidecar.web(), "/").await.ok()?.0 == 200).then_some(())
        })
        .await;
        let took = since.elapsed();
        println!("{extra}{check}: {took:?}");
        assert!(took <= INTERVAL + secs(1), "{extra}{check}: {took:?}");
    }
}

/// Meanwhile the others have all of the traffic, and none of it fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_comes_late_joins_those_that_were_there() {
    let (early, late) = (Backend::start().await, unused_port());
    let config = config(&[early.address, late], "") + &check(2);
    let sidecar = Sidecar::ready(&config).await;
    let load = outrigger_tests::load::Load::start(sidecar.web(), 4, 200);
    sleep(millis(500)).await;
    let since = load.started.elapsed();
    let _late = Backend::at(late).await;
    sidecar.until_state("api", &late.to_string(), "ready", secs(5)).await;
    sleep(millis(500)).await;
    let tally = load.stop().await;
    tally.assert_no_failures();
    let (first, _) = tally.seen[&late.to_string()];
    // Two probes in a row.
    assert!(first >= since && first <= since + INTERVAL * 2 + secs(1), "{since:?}, {first:?}");
}
