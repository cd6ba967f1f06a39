//! Tiers that share the traffic.

use super::*;
use crate::cluster::{Key, Picker, Wish};

/// Four backends in each of two tiers, of which the first few fail their probes.
fn failing(failing: u16, change: impl FnOnce(&mut config::Cluster)) -> Fixture {
    let mut f = Fixture::with(true, |settings| {
        settings.tier_spill = true;
        change(settings);
    });
    let endpoints: Vec<_> = (1..=8).map(|port| (port, 1, u16::from(port > 4))).collect();
    f.discover(&endpoints);
    (1..=8).for_each(|port| f.probe(port, port > failing));
    build_tables(&mut f);
    f
}

/// As the task does beside its other work.
fn build_tables(f: &mut Fixture) {
    f.wait(Duration::from_millis(200));
    if let Some(wanted) = f.task.tables.wanted(f.now) {
        f.event(Event::Built(Arc::new(wanted.build())));
    }
}

/// The share of the picks that the first tier gets, with keys or without.
fn first_tier(f: &Fixture, key: impl Fn(u64) -> Key) -> f64 {
    let mut picker = Picker::new(Arc::clone(&f.cluster), fastrand::Rng::with_seed(5));
    let picks = 20_000;
    let first = (0..picks).filter(|i| {
        let wish = Wish { key: key(*i), tried: &[], replayable: true, now: f.now };
        let pick = picker.pick(wish, Backend::may_connect).unwrap();
        pick.backend.endpoint.priority == 0
    });
    first.count() as f64 / picks as f64
}

#[test]
fn what_a_tier_cannot_take_spills_to_the_next_with_every_policy() {
    use crate::balancer::Policy;
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest, Policy::PeakEwma] {
        for (failed, expected) in [(0, 1.0), (1, 1.0), (2, 0.7), (3, 0.35), (4, 0.0)] {
            let f = failing(failed, |settings| settings.policy = policy);
            let share = first_tier(&f, |_| Key::None);
            assert!((share - expected).abs() < 0.02, "{policy:?}, {failed} failed: {share}");
        }
    }
    // Strict tiers give all to the first.
    let f = failing(3, |settings| settings.tier_spill = false);
    assert_eq!(first_tier(&f, |_| Key::None), 1.0);
}

/// With work in flight, too: who is idle in one tier is no reason to take from the other.
#[test]
fn shares_hold_with_work_in_flight() {
    use crate::balancer::Policy;
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        for apps in [2, 4, 8, 64] {
            let f = failing(2, |settings| settings.policy = policy);
            let mut picker = Picker::new(Arc::clone(&f.cluster), fastrand::Rng::with_seed(5));
            let mut rng = fastrand::Rng::with_seed(6);
            let (mut working, mut first) = (Vec::new(), 0);
            let picks = 20_000;
            for _ in 0..picks {
                // Whose work ends is drawn, as if all took the same time.
                if working.len() == apps {
                    working.swap_remove(rng.usize(..apps));
                }
                let wish = Wish { key: Key::None, tried: &[], replayable: true, now: f.now };
                let pick = picker.pick(wish, Backend::may_connect).unwrap();
                first += u32::from(pick.backend.endpoint.priority == 0);
                working.push(pick);
            }
            let share = f64::from(first) / f64::from(picks);
            assert!((share - 0.7).abs() < 0.02, "{policy:?}, {apps} apps: {share}");
        }
    }
}

#[test]
fn keys_are_shared_by_tiers_and_few_of_them_move() {
    let hashed = |settings: &mut config::Cluster| {
        settings.affinity.key = AffinityKey::Header { learned: false };
    };
    let key = |i: u64| Key::hashed(&i.to_be_bytes());
    let homes = |f: &Fixture| -> Vec<u64> {
        let mut picker = Picker::new(Arc::clone(&f.cluster), fastrand::Rng::with_seed(5));
        let mut home = |i| {
            let wish = Wish { key: key(i), tried: &[], replayable: true, now: f.now };
            picker.pick(wish, Backend::may_connect).unwrap().backend.id
        };
        (0..10_000).map(&mut home).collect()
    };
    let mut f = failing(2, hashed);
    assert!((first_tier(&f, key) - 0.7).abs() < 0.02);
    let before = homes(&f);
    assert_eq!(before, homes(&f));
    // One more fails: half of what the first tier had goes to the second, and what is left of it to
    // the last of the first.
    for _ in 0..3 {
        f.probe(3, false);
    }
    build_tables(&mut f);
    assert!((first_tier(&f, key) - 0.35).abs() < 0.02);
    let after = homes(&f);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    // Those of the failed one, and half of the other's.
    assert!((4_900..5_600).contains(&moved), "{moved} of 10,000 moved");
}

#[test]
fn draining_backends_do_not_count() {
    let mut f = failing(2, |_| {});
    for port in [1, 2] {
        f.order(port, crate::cluster::What::Drain { timeout: None });
    }
    assert_eq!(first_tier(&f, |_| Key::None), 1.0);
}
