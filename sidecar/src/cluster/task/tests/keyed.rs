//! What picks make of snapshots: keys, trials, bounds.

use super::*;
use crate::cluster::{Key, NoPick, Pick, Picker, Wish};
use crate::config::{Affinity, Limits};

impl Fixture {
    fn pick_by(&self, picker: &mut Picker, key: Key) -> Result<Pick, NoPick> {
        let wish = Wish { key, tried: &[], replayable: true, now: self.now };
        picker.pick(wish, Backend::may_connect)
    }

    fn fail(&mut self, port: u16, times: usize) {
        for _ in 0..times {
            let backend = self.backend(port);
            assert!(backend.begin());
            backend.end(Outcome::Reset, false, true);
        }
        self.deliver();
    }
}

fn by_header(settings: &mut config::Cluster, strict: bool) {
    let key = AffinityKey::Header { learned: false };
    let header = "x-key".into();
    settings.affinity = Affinity { key, header, ttl: None, strict, bounded_load: None };
}

/// A key for which this backend is home.
fn key_of(f: &Fixture, picker: &mut Picker, port: u16) -> Key {
    let id = f.backend(port).id;
    let leads_there = |key: &Key| f.pick_by(picker, *key).unwrap().backend.id == id;
    (0..100u32).map(|n| Key::hashed(&n.to_be_bytes())).find(leads_there).unwrap()
}

/// Once every request had a key nobody came to see whether it had recovered.
#[tokio::test(start_paused = true)]
async fn an_ejected_backend_is_tried_by_its_own_keys() {
    for strict in [false, true] {
        let mut f = Fixture::with(false, |settings| by_header(settings, strict));
        f.discover(&[(1, 1, 0), (2, 1, 0)]);
        let mut picker = f.picker();
        let (one, two) = (key_of(&f, &mut picker, 1), key_of(&f, &mut picker, 2));
        f.fail(1, 5);
        assert_eq!(f.state(1), State::Ejected);
        match f.pick_by(&mut picker, one) {
            Ok(pick) => assert!(!strict && !pick.stayed && pick.backend.id == f.backend(2).id),
            Err(none) => assert!(strict && none == NoPick::NoEligibleBackend),
        }
        f.wait(Duration::from_secs(10));
        // Whoever has a home that may be used is no guinea pig.
        assert!(!f.pick_by(&mut picker, two).unwrap().is_trial());
        let mut trial = f.pick_by(&mut picker, one).unwrap();
        assert!(trial.is_trial() && trial.stayed && trial.backend.id == f.backend(1).id);
        // One at a time.
        assert!(f.pick_by(&mut picker, one).is_ok_and(|pick| !pick.is_trial()) != strict);
        trial.answered(false, None);
        f.deliver();
        assert_eq!(f.state(1), State::Ready);
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_nobody_could_tell_of_is_over_when_the_backend_is_back() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let backend = f.backend(1);
    assert!(backend.begin_trial() && !backend.begin_trial());
    f.discover(&[(2, 1, 0)]);
    f.wait(Duration::from_secs(2));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert!(backend.begin_trial());
}

#[tokio::test(start_paused = true)]
async fn a_full_home_makes_the_strict_wait_and_others_go_elsewhere() {
    for strict in [false, true] {
        let mut f = Fixture::with(false, |settings| {
            by_header(settings, strict);
            settings.limits.backend_max_requests = Some(1);
        });
        f.discover(&[(1, 1, 0), (2, 1, 0)]);
        let mut picker = f.picker();
        let key = key_of(&f, &mut picker, 1);
        let _busy = f.pick_by(&mut picker, key).unwrap();
        match f.pick_by(&mut picker, key) {
            Ok(pick) => assert!(!strict && pick.backend.id == f.backend(2).id),
            Err(none) => assert!(strict && none == NoPick::Full),
        }
    }
}

/// It was cubic: 57 ms a pick.
#[tokio::test(start_paused = true)]
async fn a_refused_pick_among_a_thousand_full_backends_is_cheap() {
    let mut f = Fixture::with(false, |settings| {
        settings.limits = Limits { backend_max_requests: Some(1), ..settings.limits.clone() };
    });
    let endpoints: Vec<_> = (1..=1000).map(|port| (port, 1, 0)).collect();
    f.discover(&endpoints);
    let mut picker = f.picker();
    let busy: Vec<_> = (0..1000).map(|_| f.pick_by(&mut picker, Key::None).unwrap()).collect();
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(f.pick_by(&mut picker, Key::None).unwrap_err(), NoPick::Full);
    }
    let took = started.elapsed() / 100;
    assert!(took < Duration::from_millis(2), "{took:?} a pick");
    drop(busy);
}

/// Cookies stay where they are while nobody has been probed and everyone is used.
#[tokio::test(start_paused = true)]
async fn the_first_table_is_of_those_that_may_be_used() {
    let mut f = Fixture::with(true, |settings| by_header(settings, false));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert!(f.cluster.snapshot().keyed.is_none());
    f.probe(1, true);
    assert!(f.cluster.snapshot().keyed.is_some());
    let mut picker = f.picker();
    let mut stays = (0..50u32).map(|n| {
        let pick = f.pick_by(&mut picker, Key::hashed(&n.to_be_bytes())).unwrap();
        assert_eq!(pick.backend.id, f.backend(1).id);
        pick.stayed
    });
    // The others have their home at the one that is pending.
    assert!(stays.any(|stayed| stayed));
    // Losing all of them does not throw the table away.
    for _ in 0..3 {
        f.probe(1, false);
    }
    assert!(f.cluster.snapshot().keyed.is_some());
}
