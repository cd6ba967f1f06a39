//! Who gets how much, and what is said when there is nobody.

use outrigger_tests::backend::{Backend, config, unused_port};
use outrigger_tests::load::{Load, burst};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};

const TCP_CHECK: &str = "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"500ms\"\nfall = 2\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn eight_connections_are_spread_over_two_workers() {
    let backend = Backend::start().await;
    let config = config(&[backend.address], "") + "[runtime]\nworkers = 2\n";
    let sidecar = Sidecar::ready(&config).await;
    for _ in 0..5 {
        // Worker threads are named, and each counts its own processor time.
        let before = cpu_by_worker(sidecar.process.pid());
        let tally = burst(sidecar.web(), 8, 2000).await;
        tally.assert_no_failures();
        let after = cpu_by_worker(sidecar.process.pid());
        let spent: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        assert_eq!(spent.len(), 2);
        let share = spent[0] as f64 / (spent[0] + spent[1]) as f64;
        assert!((0.4..=0.6).contains(&share), "{spent:?}");
    }
}

/// Nanoseconds on a processor, by worker.
fn cpu_by_worker(pid: u32) -> Vec<u64> {
    let mut workers = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap();
        if name.starts_with("worker-") {
            let spent = std::fs::read_to_string(task.join("schedstat")).unwrap();
            let spent = spent.split(' ').next().unwrap().parse().unwrap();
            workers.push((name, spent));
        }
    }
    workers.sort();
    workers.into_iter().map(|(_, spent)| spent).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn least_request_moves_the_share_of_a_slow_backend_elsewhere() {
    let slow = Backend::answering(|_| async {
        tokio::time::sleep(millis(500)).await;
        http::Response::new(outrigger_tests::backend::full("slow"))
    })
    .await;
    let fast = [Backend::start().await, Backend::start().await, Backend::start().await];
    let mut addresses = fast.each_ref().map(|backend| backend.address).to_vec();
    addresses.push(slow.address);
    let sidecar = Sidecar::ready(&config(&addresses, "policy = \"least_request\"")).await;
    let load = Load::start(sidecar.web(), 20, 400);
    tokio::time::sleep_until(load.started + secs(5)).await;
    let tally = load.stop().await;
    tally.assert_no_failures();
    let share = tally.share(slow.address);
    assert!(share <= 10.0, "the slow backend got {share:.1} %");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_usable_backend_the_answer_is_503_in_under_10_ms() {
    let dead = unused_port();
    let checked = format!("panic_threshold = \"0%\"\n{TCP_CHECK}");
    for (addresses, extra, reason) in [
        (vec![], String::new(), "no_backend"),
        (vec![dead], checked, "no_eligible_backend"),
        (vec![dead], String::new(), "connect_failed"),
    ] {
        let sidecar = Sidecar::ready(&config(&addresses, &extra)).await;
        let mut client = client::Client::connect(sidecar.web()).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..200 {
            let start = tokio::time::Instant::now();
            let answer = client.get("/").await.unwrap();
            times.push(start.elapsed());
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["x-outrigger-error"], reason);
        }
        times.sort_unstable();
        assert!(times[197] < millis(10), "{reason}: p99 {:?}", times[197]);
        let errors = sidecar.metric("outrigger_errors_total", &[("reason", reason)]).await;
        assert_eq!(errors, 200.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_every_probe_fails_the_backends_are_used_all_the_same() {
    // Its probes fail, its traffic does not.
    let odd = Backend::answering(|request| async move {
        let mut response = http::Response::new(outrigger_tests::backend::full("ok"));
        if request.uri().path() == "/health" {
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    })
    .await;
    let check =
        "[clusters.api.health]\nprobe = \"http\"\npath = \"/health\"\ninterval = \"500ms\"\n";
    let sidecar = Sidecar::ready(&(config(&[odd.address], "") + check)).await;
    assert_eq!(sidecar.states("api").await[0].1, "unhealthy");
    burst(sidecar.web(), 2, 50).await.assert_no_failures();
    assert_eq!(sidecar.cluster("api").await["panic"], true);
    eventually("the metric says so", secs(3), || async {
        (sidecar.metric("outrigger_panic", &[]).await == 1.0).then_some(())
    })
    .await;
}
