//! Redis behind the sidecar.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use outrigger_tests::postgres::output;
use outrigger_tests::raw::Raw;
use outrigger_tests::redis::{Redis, benchmark, port};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};

use super::world::{config, ends, until_ends, within};

async fn three() -> [Redis; 3] {
    [Redis::start().await, Redis::start().await, Redis::start().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn its_benchmark_has_nothing_to_complain_about() {
    let server = Redis::start().await;
    let sidecar = Sidecar::ready(&config(&[server.address], "")).await;
    for pipeline in ["1", "16"] {
        let mut benchmark = benchmark(sidecar.web());
        benchmark.args(["-c", "50", "-n", "50000", "-P", pipeline, "-t", "set,get", "--csv"]);
        let said = output(&mut benchmark).await;
        println!("by {pipeline}:\n{said}");
        assert!(said.contains("\"SET\"") && said.contains("\"GET\""), "{said}");
        assert!(!said.to_lowercase().contains("error"), "{said}");
    }
    assert_eq!(sidecar.metric("outrigger_errors_total", &[]).await, 0.0);
    until_ends(&sidecar, "backend_reset", 0).await;
}

/// Ninety clients that all the time ask where they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_killed_costs_its_own_connections_only() {
    let mut servers = three().await;
    let sidecar = Sidecar::ready(&config(&servers.each_ref().map(|s| s.address), "")).await;
    let mut clients = Vec::new();
    for _ in 0..90 {
        let mut client = Raw::connect(sidecar.web()).await;
        let at = port(&mut client).await.expect("it is answered");
        clients.push((client, at));
    }
    let mut shares = BTreeMap::<_, usize>::new();
    clients.iter().for_each(|(_, at)| *shares.entry(*at).or_default() += 1);
    println!("{shares:?}");
    assert!(shares.len() == 3 && shares.values().all(|share| *share >= 25), "{shares:?}");

    let killed = servers[0].address.port();
    let asking = clients.into_iter().map(|(mut client, at)| {
        tokio::spawn(async move {
            // Until it ends, or has been answered a thousand times.
            let mut answered = 0;
            while answered < 1000 && port(&mut client).await == Some(at) {
                answered += 1;
            }
            (at, answered)
        })
    });
    let asking: Vec<_> = asking.collect();
    servers[0].process.kill().await;
    let all = within(secs(60), "all have ended", join_all(asking)).await;
    for ended in all {
        let (at, answered) = ended.unwrap();
        assert!((at == killed) != (answered == 1000), "{answered} answers of {at}");
    }
    // Each of the lost by a close or a reset, as its server had read what was said to it or not.
    eventually("all are counted", secs(5), || async {
        let broken_off = ends(&sidecar, "backend_reset").await;
        assert!(broken_off <= shares[&killed] as f64, "{broken_off}");
        (broken_off + ends(&sidecar, "finished").await == 90.0).then_some(())
    })
    .await;

    // Those who come now find the others.
    for _ in 0..20 {
        let mut client = Raw::connect(sidecar.web()).await;
        assert_ne!(port(&mut client).await.expect("it is answered"), killed);
    }
}
