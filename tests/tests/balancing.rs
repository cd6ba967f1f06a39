//! Who gets how much, and what is said when there is nobody.

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::load::burst;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

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

/// Two tiers of four: what the first cannot take goes to the second, if it is told to share.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tier_that_is_short_shares_with_the_next() {
    for (failing, spill, expected) in [(1, true, 100.0), (2, true, 70.0), (2, false, 100.0)] {
        let mut backends = Vec::new();
        for _ in 0..8 {
            backends.push(Backend::start().await);
        }
        let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
        let endpoints: String = addresses
            .iter()
            .enumerate()
            .map(|(i, a)| format!("{{ address = \"{a}\", priority = {} }},", u8::from(i > 3)))
            .collect();
        let sidecar = Sidecar::ready(&format!(
            "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
             [clusters.api]\ntier_spill = {spill}\n\
             [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{endpoints}]\n\
             [clusters.api.health]\nprobe = \"tcp\"\ninterval = \"100ms\"\nfall = 1\n"
        ))
        .await;
        for backend in backends.drain(..failing) {
            let name = backend.name();
            drop(backend);
            sidecar.until_state("api", &name, "unhealthy", secs(5)).await;
        }
        let tally = burst(sidecar.web(), 4, 500).await;
        tally.assert_no_failures();
        let first: f64 = addresses[..4].iter().map(|address| tally.share(*address)).sum();
        assert!((first - expected).abs() <= 3.0, "{failing} fail, spill {spill}: {first} %");
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
