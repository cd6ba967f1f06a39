//! What many picks come to, through the pickers of two workers.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::balancer::Policy;
use crate::cluster::{ProbeReport, fixture};

const PICKS: u32 = 100_000;
const BY_HEADER: &str = "[clusters.api.affinity]\nby = \"header\"\n";

/// A cluster of backends with these weights, whose task runs.
fn cluster(tables: &str, weights: &[u32]) -> Arc<Cluster> {
    let settings = fixture::settings(tables);
    let (cluster, mut task, _) = fixture::cluster(settings, Duration::ZERO);
    let ports = 1..=weights.len() as u16;
    task.seed(
        0,
        ports.zip(weights).map(|(port, weight)| fixture::endpoint(port, *weight, 0)).collect(),
    );
    for entry in &cluster.snapshot().entries {
        // Their latencies are equal.
        let (at, round_trip) = (SystemTime::UNIX_EPOCH, Duration::from_millis(10));
        entry.backend.probed(ProbeReport { at, result: Ok(()), round_trip }, Instant::now());
    }
    tokio::spawn(task.run());
    cluster
}

fn workers(cluster: &Arc<Cluster>) -> [Picker; 2] {
    [1, 2].map(|seed| Picker::new(Arc::clone(cluster), fastrand::Rng::with_seed(seed)))
}

/// The port of the backend that is picked.
fn pick(worker: &mut Picker, key: Key) -> u16 {
    let wish = Wish { key, tried: &[], replayable: true, now: Instant::now() };
    fixture::port(&worker.pick(wish, Backend::may_connect).unwrap().backend.endpoint.address)
}

fn key(number: u32) -> Key {
    Key::hashed(format!("user-{number}").as_bytes())
}

/// Shares of picks by port, in percent.
fn shares(cluster: &Arc<Cluster>, key: impl Fn(u32) -> Key) -> BTreeMap<u16, f64> {
    let mut workers = workers(cluster);
    let mut shares = BTreeMap::new();
    for number in 0..PICKS {
        let port = pick(&mut workers[number as usize % 2], key(number));
        *shares.entry(port).or_default() += 100.0 / f64::from(PICKS);
    }
    shares
}

fn assert_follow(shares: &BTreeMap<u16, f64>, weights: &[u32], what: &str) {
    let total: u32 = weights.iter().sum();
    for (port, weight) in (1..).zip(weights) {
        let expected = 100.0 * f64::from(*weight) / f64::from(total);
        let share = shares.get(&port).copied().unwrap_or_default();
        assert!((share - expected).abs() <= 2.0, "{what} {weights:?}: {shares:?}");
    }
}

const WEIGHTS: [&[u32]; 4] = [&[1, 1, 1, 1], &[60, 30, 10], &[5, 0, 3, 2], &[97, 1, 1, 1]];

#[tokio::test(start_paused = true)]
async fn shares_follow_the_weights_whatever_the_policy() {
    for policy in [Policy::RoundRobin, Policy::LeastRequest, Policy::PeakEwma, Policy::Random] {
        for weights in WEIGHTS {
            let tables = format!("[clusters.api]\npolicy = \"{}\"\n", policy.name());
            let shares = shares(&cluster(&tables, weights), |_| Key::None);
            assert_follow(&shares, weights, policy.name());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shares_of_hashed_keys_follow_the_weights() {
    for weights in WEIGHTS {
        assert_follow(&shares(&cluster(BY_HEADER, weights), key), weights, "hashed");
    }
}

/// First its keys alone move, to all others; then the table is made anew without it.
#[tokio::test(start_paused = true)]
async fn one_of_ten_that_leaves_takes_hardly_more_than_its_keys_along() {
    const KEYS: u32 = 20_000;
    for leaving in [1, 5, 10] {
        let cluster = cluster(BY_HEADER, &[1; 10]);
        let [mut one, mut other] = workers(&cluster);
        let before: Vec<u16> = (0..KEYS).map(|number| pick(&mut one, key(number))).collect();
        let staying: Vec<_> =
            (1..=10).filter(|port| *port != leaving).map(|port| (port, 1, 0)).collect();
        cluster.events().send(fixture::discovered(&staying)).await.unwrap();
        for done in [false, true] {
            let is_so = |snapshot: &Snapshot| match done {
                false => snapshot.candidates.indices.len() == 9,
                true => {
                    snapshot.keyed.as_ref().is_some_and(|keyed| keyed.of(0).unwrap().ids.len() == 9)
                }
            };
            let mut version = cluster.version();
            let awaited = version.wait_for(|_| is_so(&cluster.snapshot()));
            drop(tokio::time::timeout(Duration::from_secs(60), awaited).await.unwrap().unwrap());
            let after: Vec<u16> = (0..KEYS).map(|number| pick(&mut other, key(number))).collect();
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
            let of_others = moved.clone().filter(|(before, _)| **before != leaving).count();
            assert!(moved.count() <= 2400, "more than 12 % moved");
            assert!(done || of_others == 0, "{of_others} keys moved for nothing");
            assert!(!after.contains(&leaving));
        }
    }
}
