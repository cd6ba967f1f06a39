//! Picks, as workers make them.

use super::*;
use crate::cluster::{Key, NoPick, Pick, Picker, What, Wish};

impl Fixture {
    pub(super) fn picker(&self) -> Picker {
        Picker::new(Arc::clone(&self.cluster), fastrand::Rng::with_seed(7))
    }

    pub(super) fn pick(&self, key: Key) -> Result<Pick, NoPick> {
        self.picker()
            .pick(Wish { key, tried: &[], replayable: true, now: self.now }, Backend::may_connect)
    }
}

#[test]
fn who_was_drained_before_discovery_dropped_everyone_is_nobody() {
    let mut f = Fixture::new(false);
    assert_eq!(f.pick(Key::None).unwrap_err(), NoPick::NoBackend);
    f.discover(&[(1, 1, 0)]);
    f.order(1, What::Drain { timeout: None });
    assert_eq!(f.pick(Key::None).unwrap_err(), NoPick::NoEligibleBackend);
    f.discover(&[]);
    assert_eq!(f.pick(Key::None).unwrap_err(), NoPick::NoBackend);
}

fn learned(settings: &mut config::Cluster) {
    settings.affinity.key = AffinityKey::SourceIp { learned: true };
}

/// Who is used before its first verdict, because it does not come, is used by its clients too.
#[test]
fn affinity_leads_to_whoever_is_used() {
    let mut f = Fixture::with(true, learned);
    f.discover(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    f.wait(START_TIMEOUT);
    assert_eq!(f.candidates(), [1, 2, 3]);
    for key in 0..30 {
        let home = f.backend(key as u16 % 3 + 1).id;
        f.cluster.learned.as_ref().unwrap().learn(key, home, f.now);
        let pick = f.pick(Key::Learned(key)).unwrap();
        assert_eq!((pick.backend.id, pick.stayed), (home, true));
    }
}

/// Who must not go elsewhere waits for room, as everyone does when all backends are full.
#[test]
fn a_strict_client_of_a_full_backend_waits() {
    let mut f = Fixture::with(false, |settings| {
        settings.affinity.key = AffinityKey::Cookie("c".into());
        settings.affinity.strict = true;
        settings.limits.backend_max_requests = Some(1);
    });
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let key = Key::Tag(f.backend(1).tags.unwrap().signing());
    let pick = f.pick(key).unwrap();
    assert_eq!(f.pick(key).unwrap_err(), NoPick::Full);
    drop(pick);
    assert!(f.pick(key).is_ok());
    assert_eq!(f.pick(Key::Tag(0)).unwrap_err(), NoPick::NoEligibleBackend);
}

impl Fixture {
    /// Takes a backend out for what its traffic showed, and waits for the end of that.
    pub(super) fn eject(&mut self, port: u16) {
        let backend = self.backend(port);
        for _ in 0..3 {
            backend.begin();
            backend.end(Outcome::ConnectFailed, false, true);
        }
        self.wait(Duration::from_millis(200));
        assert_eq!(self.state(port), State::Ejected);
        let ejection = self.entry(port).ejection.unwrap();
        self.wait(ejection.until + Duration::from_millis(200) - self.now);
    }

    pub(super) fn entry(&self, port: u16) -> Entry {
        let snapshot = self.cluster.snapshot();
        snapshot.entries[snapshot.find(self.backend(port).id).unwrap()].clone()
    }
}

/// All of the traffic may have keys, and then every one of them has somewhere to go.
#[test]
fn a_hashed_key_whose_backend_is_ejected_tries_it_when_its_time_is_over() {
    let mut f = Fixture::with(false, |settings| {
        settings.affinity.key = AffinityKey::SourceIp { learned: false };
    });
    f.discover(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    f.eject(1);
    let ejected = f.backend(1).id;
    let picks: Vec<_> = (0u8..100).map(|key| f.pick(Key::hashed(&[key])).unwrap()).collect();
    let trials = picks.iter().filter(|pick| pick.is_trial()).count();
    assert_eq!(trials, 1);
    for pick in &picks {
        assert_eq!(pick.backend.id == ejected, pick.is_trial());
    }
}

/// While first verdicts are awaited there is nobody to make a table of.
#[test]
fn the_first_hashed_keys_go_where_later_ones_will() {
    let mut f = Fixture::with(true, |settings| {
        settings.affinity.key = AffinityKey::SourceIp { learned: false };
    });
    f.discover(&[(1, 1, 0)]);
    assert_eq!(f.candidates(), [0u16; 0]);
    f.probe(1, true);
    assert!(f.pick(Key::hashed(b"key")).unwrap().stayed);
}
