//! A cluster in a simulated world: sources that flap and contradict each other, probes that change their mind, backends
//! that fail in every way, traffic through the pickers of several workers, operators, and apps with their
//! leases and pins.
//!
//! Everything follows from one seed: the configuration, what happens and when. Time is tokio's
//! paused clock. A [`World`] makes things happen; a [`Model`](model::Model) keeps its own records
//! of them and judges, after each step, whether what the cluster did was allowed. The rules of the
//! README are written down a second time for that, in [`rules`], and nothing that is judged is
//! asked for its opinion. `OUTRIGGER_SEED=7` replays one seed.

mod changes;
mod discovery;
mod given;
mod journal;
mod members;
mod model;
mod orders;
mod owners;
mod past;
mod peer;
mod picks;
mod pins;
mod rules;
mod setup;
mod snapshots;
mod sources;
mod traffic;
mod view;
mod world;

use std::collections::HashMap;

use journal::KINDS;
use world::World;

const SEEDS: u64 = 1000;
const STEPS: usize = 1500;
/// In all worlds together.
const OFTEN: usize = 100;

#[test]
fn a_cluster_keeps_its_rules_in_a_thousand_worlds() {
    let seeds = match std::env::var("OUTRIGGER_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("OUTRIGGER_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let all = seeds.end - seeds.start == SEEDS;
    let mut happened = HashMap::new();
    for seed in seeds {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step().await;
            }
            for (kind, times) in &world.journal.kinds {
                *happened.entry(*kind).or_insert(0) += times;
            }
        });
    }
    // A world in which little happens would prove little.
    let often = happened.values().filter(|times| **times >= OFTEN).count();
    assert!(!all || often == KINDS, "{often} kinds of things happened often: {happened:?}");
}
