//! What real traffic does to backends, at sizes and moments that once went wrong.

use super::*;

impl Fixture {
    /// The backend answers a request, and the cluster looks.
    fn answer(&mut self, backend: &Backend) {
        assert!(backend.begin());
        backend.answered(Duration::from_millis(1), None, true, self.now);
        backend.end(Outcome::Success, true, false);
        self.wait(sweep::EVERY);
    }
}

/// Under failure a sweep was quadratic, a second or two for 5,000 backends.
#[tokio::test(start_paused = true)]
async fn a_sweep_over_5000_failing_backends_is_quick() {
    let mut f = Fixture::new(false);
    let endpoints: Vec<_> = (1..=5000).map(|port| (port, 1, 0)).collect();
    f.discover(&endpoints);
    let backends: Vec<_> =
        f.cluster.snapshot().entries.iter().map(|e| Arc::clone(&e.backend)).collect();
    for backend in &backends {
        for _ in 0..20 {
            assert!(backend.begin());
            backend.end(Outcome::Reset, false, true);
        }
    }
    let started = std::time::Instant::now();
    f.task.sweep(f.now);
    let took = started.elapsed();
    assert!(took < Duration::from_millis(200), "{took:?}");
    f.wait(PUBLISH_EVERY);
    let snapshot = f.cluster.snapshot();
    let ejected = snapshot.entries.iter().filter(|entry| entry.ejection.is_some()).count();
    assert_eq!(ejected, 2500);
}

/// It takes a few milliseconds; what is quadratic would take seconds.
#[test]
fn an_update_of_5000_endpoints_is_quick() {
    let mut f = Fixture::new(true);
    let weighted = |weight| (1..=5000).map(|port| (port, weight, 0)).collect::<Vec<_>>();
    f.discover(&weighted(1));
    let update = discovered(&weighted(2));
    f.now += PUBLISH_EVERY;
    let started = std::time::Instant::now();
    f.task.apply(update, f.now);
    f.task.tick(f.now);
    let took = started.elapsed();
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert!(f.cluster.snapshot().entries.iter().all(|entry| entry.assigned == 512));
}

/// Whoever is above the bound of those that are remembered was compared with all of them.
#[test]
fn forgetting_5000_at_once_is_quick() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    let replace = |f: &mut Fixture, set: u16| {
        f.discover(&(1..=5000).map(|port| (set * 5000 + port, 1, 0)).collect::<Vec<_>>());
        // One of these sweeps lets those of the set before go.
        let sweep = |f: &mut Fixture| {
            let started = std::time::Instant::now();
            f.wait(sweep::EVERY);
            started.elapsed()
        };
        let longest = (0..20).map(|_| sweep(f)).max().unwrap();
        assert_eq!(f.task.members.iter().count(), 5000);
        longest
    };
    for set in 0..2 {
        replace(&mut f, set);
    }
    // The best of several, since others use the machine too.
    let took = (2..6).map(|set| replace(&mut f, set)).min().unwrap();
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// Each looked for its backend among all of them.
#[test]
fn an_event_costs_the_same_in_a_cluster_of_5000() {
    let time = |size: u16| {
        let mut f = Fixture::new(true);
        f.discover(&(1..=size).map(|port| (port, 1, 0)).collect::<Vec<_>>());
        let id = f.backend(size).id;
        let at = SystemTime::UNIX_EPOCH;
        let mut round = || {
            let started = std::time::Instant::now();
            for _ in 0..200 {
                let report = ProbeReport { at, round_trip: Duration::ZERO, result: Ok(()) };
                f.task.apply(Event::Probed { id, report }, f.now);
            }
            started.elapsed()
        };
        // The best of several, since others use the machine too.
        (0..10).map(|_| round()).min().unwrap()
    };
    let (few, many) = (time(10), time(5000));
    assert!(many < few * 50, "{few:?} with ten backends, {many:?} with 5000");
}

/// Each failure above the threshold was an event, and a wake-up of the control thread.
#[test]
fn a_streak_is_reported_once() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0)]);
    let backend = f.backend(1);
    for _ in 0..100 {
        assert!(backend.begin());
        backend.end(Outcome::ConnectFailed, false, true);
    }
    let mut said = 0;
    while f.task.inbox.try_recv().is_ok() {
        said += 1;
    }
    // Once for the connects in a row, and once for the failures.
    assert_eq!(said, 2);
}

/// The budget was a share of the outcomes of those who were there.
#[tokio::test(start_paused = true)]
async fn the_retry_budget_does_not_depend_on_who_comes_and_goes() {
    let mut f = Fixture::with(false, |settings| settings.retry.min_per_second = 0);
    f.discover(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    let serve = |f: &mut Fixture, ports: &[u16], seconds: u32| {
        for _ in 0..seconds * 10 {
            for port in ports {
                for _ in 0..10 {
                    let backend = f.backend(*port);
                    assert!(backend.begin());
                    backend.answered(Duration::ZERO, None, true, f.now);
                    backend.end(Outcome::Success, true, false);
                }
            }
            f.wait(sweep::EVERY);
        }
        std::iter::from_fn(|| f.cluster.budget.take().then_some(())).count()
    };
    // 300 a second.
    let full = serve(&mut f, &[1, 2, 3], 20);
    assert!((540..=600).contains(&full), "{full}");
    serve(&mut f, &[1, 2, 3], 10);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let fewer = serve(&mut f, &[1, 2], 2);
    assert!(fewer <= 600, "{fewer}");
    serve(&mut f, &[1, 2], 10);
    f.discover(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)]);
    let back = serve(&mut f, &[1, 2, 3], 1);
    assert!(back <= 600, "{back}");
}

#[test]
fn an_answered_probe_ends_a_stall_and_an_open_port_does_not() {
    for (answers, expected) in [(true, State::Ready), (false, State::Ejected)] {
        let mut f = Fixture::with(true, |settings| {
            if let (true, Some(health)) = (answers, &mut settings.health) {
                health.probe = Probe::Grpc { service: String::new() };
            }
        });
        f.discover(&[(1, 1, 0), (2, 1, 0)]);
        f.probe(1, true);
        f.probe(2, true);
        let (silent, other) = (f.backend(1), f.backend(2));
        f.answer(&silent);
        for _ in 0..5 {
            assert!(silent.begin());
        }
        for _ in 0..5 {
            f.answer(&other);
        }
        assert_eq!(f.state(1), State::Ejected);
        assert!(f.cluster.snapshot().entries[0].stalled);
        f.probe(1, true);
        assert_eq!(f.state(1), expected);
        let recovered = f.happened().iter().any(|(what, _)| what == "recovered 10.0.0.1:1");
        assert_eq!(recovered, answers);
    }
}

/// A slow upload is no silence of the backend.
#[test]
fn what_is_still_being_sent_makes_no_stall() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let (uploads, other) = (f.backend(1), f.backend(2));
    for backend in [&uploads, &other] {
        f.answer(backend);
    }
    for _ in 0..12 {
        assert!(uploads.begin());
        uploads.waits(false);
    }
    for _ in 0..10 {
        f.answer(&other);
    }
    assert_eq!(f.state(1), State::Ready);
    for _ in 0..12 {
        uploads.waits(true);
    }
    for _ in 0..5 {
        f.answer(&other);
    }
    assert_eq!(f.state(1), State::Ejected);
}

#[test]
fn the_unknown_are_used_before_those_that_fail() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0)]);
    f.probe(1, false);
    f.wait(START_TIMEOUT);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!(f.candidates(), [2]);
}

#[test]
fn whoever_comes_with_the_first_backends_is_not_late() {
    let window = Some(Duration::from_secs(20));
    let mut f = Fixture::with(false, |settings| settings.slow_start = window);
    f.discover(&[]);
    f.discover(&[(1, 1, 0)]);
    assert_eq!(f.cluster.snapshot().entries[0].weight, 256);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!(f.cluster.snapshot().entries[1].weight, 26);
}
