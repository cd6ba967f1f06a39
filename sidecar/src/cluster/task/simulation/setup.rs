//! The configuration of a world, drawn from its seed.

use std::sync::OnceLock;
use std::time::Duration;

use crate::balancer::Policy;
use crate::cluster::fixture;
use crate::config::{
    self, Affinity, AffinityKey, Drain, Health, Limits, OnLeaving, Outlier, Probe, Retry,
};

/// As in a file that says only what it must.
fn defaults() -> config::Cluster {
    static DEFAULTS: OnceLock<config::Cluster> = OnceLock::new();
    DEFAULTS.get_or_init(|| fixture::settings("")).clone()
}

pub(super) fn settings(rng: &mut fastrand::Rng) -> config::Cluster {
    let affinity = affinity(rng);
    let plain = defaults();
    config::Cluster {
        sources: vec![plain.sources[0].clone(); one_of(rng, [1, 1, 1, 2, 2, 3])],
        // The parts of keys that tiers have are tested elsewhere.
        tier_spill: !affinity.hashes() && rng.u8(..3) == 0,
        policy: one_of(
            rng,
            [Policy::RoundRobin, Policy::LeastRequest, Policy::PeakEwma, Policy::Random],
        ),
        panic_threshold: one_of(rng, [0, 50, 100]),
        removal_hold: rng.bool().then(|| millis(rng, 300, 20_000)),
        health: rng.bool().then(|| health(rng)),
        outlier: (rng.u8(..5) > 0).then(|| outlier(rng)),
        drain: drain(rng),
        affinity,
        limits: limits(rng),
        slow_start: (rng.u8(..5) < 2).then(|| millis(rng, 500, 20_000)),
        retry: Retry {
            budget: one_of(rng, [0, 20, 50]),
            min_per_second: one_of(rng, [0, 3]),
            ..defaults().retry
        },
        ..plain
    }
}

pub(super) fn one_of<T, const N: usize>(rng: &mut fastrand::Rng, values: [T; N]) -> T {
    rng.choice(values).expect("N is not 0")
}

pub(super) fn millis(rng: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..=to))
}

fn health(rng: &mut fastrand::Rng) -> Health {
    let interval = Duration::from_secs(1);
    Health {
        probe: Probe::Tcp,
        port: None,
        host: None,
        interval,
        interval_unhealthy: interval,
        timeout: interval,
        rise: rng.u16(1..=3),
        fall: rng.u16(1..=3),
        skip_when_busy: false,
    }
}

fn outlier(rng: &mut fastrand::Rng) -> Outlier {
    let base_ejection = millis(rng, 300, 8_000);
    Outlier {
        consecutive: rng.u32(2..=6),
        consecutive_connect: rng.u32(1..=4),
        base_ejection,
        max_ejection: base_ejection.mul_f64(1.0 + 4.0 * rng.f64()),
        max_ejected: one_of(rng, [0, 10, 34, 50, 100]),
    }
}

fn drain(rng: &mut fastrand::Rng) -> Drain {
    let how = [OnLeaving::Keep, OnLeaving::Drain, OnLeaving::Terminate];
    Drain {
        timeout: millis(rng, 300, 20_000),
        keep_affinity: rng.bool(),
        on_unhealthy: one_of(rng, how),
        on_removal: one_of(rng, how),
    }
}

fn affinity(rng: &mut fastrand::Rng) -> Affinity {
    let key = match rng.u8(..6) {
        0 | 1 => AffinityKey::Cookie("c".into()),
        2 => AffinityKey::Header { learned: true },
        3 => AffinityKey::Header { learned: false },
        _ => AffinityKey::None,
    };
    let header = "x-user".into();
    let mut affinity = Affinity { key, header, ttl: None, strict: false, bounded_load: None };
    affinity.ttl = rng.bool().then(|| millis(rng, 1_000, 60_000));
    affinity.strict = !affinity.hashes() && rng.u8(..4) == 0;
    affinity.bounded_load = (affinity.hashes() && rng.u8(..3) == 0).then_some(125);
    affinity
}

fn limits(rng: &mut fastrand::Rng) -> Limits {
    let mut limits = defaults().limits;
    if rng.u8(..3) == 0 {
        limits.max_requests = rng.bool().then(|| rng.u32(3..30));
        limits.backend_max_requests = rng.bool().then(|| rng.u32(1..8));
    }
    limits
}
