//! What a pick costs, its end included: `cargo bench -p outrigger --bench pick`.

#![allow(clippy::expect_used, reason = "a measurement that cannot be made has nothing to say")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::Bencher;
use outrigger::cluster::{Backend, Cluster, Endpoint, Key, Picker, WEIGHT_ONE, Wish};
use outrigger::config;
use outrigger::telemetry::metrics::Metrics;

const BACKENDS: [u16; 3] = [3, 100, 1_000];

fn main() {
    divan::main();
}

/// A cluster of so many backends, whose task runs on another thread.
fn cluster(tables: &str, backends: u16, weight: impl Fn(u16) -> u32) -> Arc<Cluster> {
    let text = format!(
        "[listeners.web]\nlisten = \"127.0.0.1:8080\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"dns\"\nname = \"api.test\"\nport = 80\n{tables}"
    );
    let loaded = config::load_text(Path::new("bench.toml"), &text).expect("it is valid");
    let settings = Arc::clone(&loaded.config.clusters[0]);
    let metrics = Metrics::new().expect("metrics");
    let timeout = Duration::from_secs(5);
    let (cluster, mut task) =
        Cluster::new(settings, timeout, &metrics, &Arc::default(), None, None);
    let endpoint = |i: u16| {
        let address = format!("10.0.{}.{}:80", i / 256, i % 256).parse().expect("an address");
        Endpoint { weight: weight(i) * WEIGHT_ONE, ..Endpoint::new(address) }
    };
    task.seed(0, (0..backends).map(endpoint).collect());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(task.run());
    });
    cluster
}

fn run(bencher: Bencher<'_, '_>, cluster: Arc<Cluster>, key: impl Fn(u64) -> Key) {
    let mut picker = Picker::new(cluster, fastrand::Rng::with_seed(1));
    let (mut number, now) = (0, tokio::time::Instant::now());
    bencher.bench_local(|| {
        number += 1;
        let wish = Wish { key: key(number), tried: &[], replayable: true, now };
        // Its end counts too, and nothing is left in flight.
        drop(picker.pick(wish, Backend::may_connect).expect("there is somebody"));
    });
}

const CASES: [(&str, u16); 12] = [
    ("round_robin", 3),
    ("round_robin", 100),
    ("round_robin", 1_000),
    ("random", 3),
    ("random", 100),
    ("random", 1_000),
    ("least_request", 3),
    ("least_request", 100),
    ("least_request", 1_000),
    ("peak_ewma", 3),
    ("peak_ewma", 100),
    ("peak_ewma", 1_000),
];

fn by_policy(bencher: Bencher<'_, '_>, (policy, backends): (&str, u16), weight: fn(u16) -> u32) {
    let tables = format!("[clusters.api]\npolicy = \"{policy}\"\n");
    run(bencher, cluster(&tables, backends, weight), |_| Key::None);
}

#[divan::bench(args = CASES)]
fn equal_weights(bencher: Bencher<'_, '_>, case: (&str, u16)) {
    by_policy(bencher, case, |_| 1);
}

#[divan::bench(args = CASES)]
fn different_weights(bencher: Bencher<'_, '_>, case: (&str, u16)) {
    by_policy(bencher, case, |i| u32::from(i) % 100 + 1);
}

#[divan::bench(args = BACKENDS)]
fn hashed_keys(bencher: Bencher<'_, '_>, backends: u16) {
    let tables = "[clusters.api.affinity]\nby = \"header\"\n";
    let cluster = cluster(tables, backends, |_| 1);
    let patience = Instant::now() + Duration::from_secs(10);
    while cluster.snapshot().keyed.is_none() {
        assert!(Instant::now() < patience, "the table is not built");
        std::thread::sleep(Duration::from_millis(10));
    }
    run(bencher, cluster, |number| Key::hashed(&number.to_be_bytes()));
}
