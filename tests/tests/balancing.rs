//! Who gets how much, and what is said when there is nobody.

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::load::burst;
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
