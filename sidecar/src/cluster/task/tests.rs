//! The rules about the state of backends, without a socket or a sleep.

mod discovered;
mod judged;
mod keyed;
mod leaving;
mod measured;
mod noted;
mod ordered;
mod picked;
mod pinned;
mod spilling;

use super::*;
use crate::cluster::fixture::{self, discovered};
use crate::cluster::members::REMEMBER;
use crate::cluster::{Answer, Backend, Endpoint, State};
use crate::config::{AffinityKey, Probe};
use crate::telemetry::metrics::Outcome;

const START_TIMEOUT: Duration = Duration::from_secs(5);

struct Fixture {
    cluster: Arc<Cluster>,
    task: ClusterTask,
    start: Instant,
    now: Instant,
}

impl Fixture {
    fn new(checked: bool) -> Self {
        Self::with(checked, |_| {})
    }

    fn with(checked: bool, change: impl FnOnce(&mut config::Cluster)) -> Self {
        let health =
            "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"1s\"\ntimeout = \"1s\"\n";
        let mut settings = fixture::settings(if checked { health } else { "" });
        change(&mut settings);
        let (cluster, task, _) = fixture::cluster(settings, START_TIMEOUT);
        let start = task.pending_until - START_TIMEOUT;
        Self { cluster, task, start, now: start }
    }

    fn discover(&mut self, endpoints: &[(u16, u32, u16)]) {
        self.event(discovered(endpoints));
    }

    fn probe(&mut self, port: u16, passed: bool) {
        let id = self.backend(port).id;
        let result = if passed { Ok(()) } else { Err("refused".into()) };
        let report = ProbeReport { at: SystemTime::UNIX_EPOCH, round_trip: Duration::ZERO, result };
        self.event(Event::Probed { id, report });
    }

    fn event(&mut self, event: Event) {
        self.task.apply(event, self.now);
        // Far enough on for the next snapshot to be allowed.
        self.wait(PUBLISH_EVERY);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + sweep::EVERY);
            self.task.tick(self.now);
        }
    }

    fn backend(&self, port: u16) -> Arc<Backend> {
        let snapshot = self.cluster.snapshot();
        let at_port = |e: &&Entry| fixture::port(&e.backend.endpoint.address) == port;
        let entry = snapshot.entries.iter().find(at_port);
        Arc::clone(&entry.unwrap().backend)
    }

    fn state(&self, port: u16) -> State {
        let id = self.backend(port).id;
        let snapshot = self.cluster.snapshot();
        snapshot.entries.iter().find(|e| e.backend.id == id).unwrap().state()
    }

    /// Ports of those that may be picked.
    fn candidates(&self) -> Vec<u16> {
        let snapshot = self.cluster.snapshot();
        let address = |index: &usize| &snapshot.entries[*index].backend.endpoint.address;
        snapshot.candidates.indices.iter().map(address).map(fixture::port).collect()
    }
}

#[test]
fn without_checks_backends_start_ready() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!(f.candidates(), [1, 2]);
    assert!(f.cluster.snapshot().settled());
}

#[test]
fn behind_a_check_the_first_verdict_decides() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!((f.state(1), f.candidates()), (State::Pending, vec![]));
    f.probe(1, false);
    // A failing backend is no reason for panic while the other may yet pass.
    assert_eq!((f.state(1), f.candidates()), (State::Unhealthy, vec![]));
    assert!(!f.cluster.snapshot().settled());
    f.probe(2, true);
    assert_eq!((f.state(2), f.candidates()), (State::Ready, vec![2]));
    assert!(f.cluster.snapshot().settled());
}

#[test]
fn rise_and_fall_count_results_in_a_row() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.probe(1, true);
    f.probe(2, true);
    for passed in [false, false, true, false, false] {
        f.probe(1, passed);
        assert_eq!(f.state(1), State::Ready);
    }
    f.probe(1, false);
    assert_eq!((f.state(1), f.candidates()), (State::Unhealthy, vec![2]));
    for passed in [true, false, true] {
        f.probe(1, passed);
        assert_eq!(f.state(1), State::Unhealthy);
    }
    f.probe(1, true);
    assert_eq!((f.state(1), f.candidates()), (State::Ready, vec![1, 2]));
}

#[test]
fn pending_backends_are_used_after_the_start_timeout_when_there_is_nobody_else() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!(f.candidates(), [0u16; 0]);
    f.wait(f.start + START_TIMEOUT - f.now);
    assert_eq!(f.candidates(), [1, 2]);
    // Once something is known of one of them, the other waits for its verdict.
    f.probe(2, true);
    assert_eq!(f.candidates(), [2]);
}

#[test]
fn all_failing_means_panic_lowest_tier_first() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0), (2, 1, 1)]);
    f.probe(1, false);
    f.probe(2, false);
    assert_eq!(f.candidates(), [1]);
    assert!(f.cluster.snapshot().candidates.panic);
    // Never instead of a healthy lower tier.
    f.probe(2, true);
    f.probe(2, true);
    assert_eq!(f.candidates(), [2]);
    assert!(!f.cluster.snapshot().candidates.panic);
}

#[test]
fn with_panic_off_nobody_is_used() {
    let mut f = Fixture::with(true, |settings| settings.panic_threshold = 0);
    f.discover(&[(1, 1, 0)]);
    f.probe(1, false);
    assert_eq!(f.candidates(), [0u16; 0]);
}

#[test]
fn the_lowest_tier_with_an_eligible_backend_takes_all() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 10), (2, 1, 10), (3, 1, 20)]);
    for port in [1, 2, 3] {
        f.probe(port, true);
    }
    assert_eq!(f.candidates(), [1, 2]);
    for port in [1, 2] {
        for _ in 0..3 {
            f.probe(port, false);
        }
    }
    assert_eq!(f.candidates(), [3]);
}

#[test]
fn weight_0_is_the_last_resort_of_its_tier() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 5, 0), (2, 0, 0), (3, 0, 0), (4, 5, 1)]);
    for port in [1, 2, 3, 4] {
        f.probe(port, true);
    }
    assert_eq!(f.candidates(), [1]);
    for _ in 0..3 {
        f.probe(1, false);
    }
    assert_eq!(f.candidates(), [2, 3]);
    let weights = f.cluster.snapshot().candidates.weights.clone();
    assert_eq!(weights.get(0), weights.get(1));
}

#[test]
fn a_change_of_order_makes_no_snapshot() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 7, 0)]);
    let version = f.cluster.snapshot().version;
    f.discover(&[(2, 7, 0), (1, 1, 0)]);
    assert_eq!(f.cluster.snapshot().version, version);
    f.discover(&[(2, 6, 0), (1, 1, 0)]);
    assert_eq!(f.cluster.snapshot().version, version + 1);
}

#[test]
fn measurements_survive_weights_and_absence() {
    let mut f = Fixture::new(true);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    f.probe(1, true);
    let before = f.backend(1);
    before.begin();
    f.discover(&[(1, 9, 0), (2, 1, 0)]);
    assert_eq!((f.backend(1).id, f.backend(1).in_flight()), (before.id, 1));
    assert_eq!(f.state(1), State::Ready);

    f.discover(&[(2, 1, 0)]);
    before.end(Outcome::Success, false, true);
    f.wait(REMEMBER - Duration::from_secs(1));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_eq!(f.backend(1).id, before.id);
    // What its probes said has lapsed.
    assert_eq!(f.state(1), State::Pending);

    f.discover(&[(2, 1, 0)]);
    f.wait(REMEMBER + Duration::from_secs(2));
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    assert_ne!(f.backend(1).id, before.id);
}

#[test]
fn a_failing_source_keeps_the_set_and_marks_it_stale() {
    let mut f = Fixture::new(false);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
    f.event(Event::DiscoveryFailed { source: 0, at, error: "timeout".into() });
    assert!(f.cluster.snapshot().source.is_none());
    f.discover(&[(1, 1, 0)]);
    assert_eq!(f.cluster.snapshot().stale_since, None);
    f.event(Event::DiscoveryFailed { source: 0, at, error: "timeout".into() });
    let version = f.cluster.snapshot().version;
    f.event(Event::DiscoveryFailed { source: 0, at: SystemTime::now(), error: "timeout".into() });
    let snapshot = f.cluster.snapshot();
    assert_eq!((f.candidates(), snapshot.stale_since), (vec![1], Some(at)));
    assert_eq!(snapshot.version, version);
    f.discover(&[(1, 1, 0)]);
    assert_eq!(f.cluster.snapshot().stale_since, None);
}

#[test]
fn an_empty_answer_empties_the_cluster() {
    let mut f = Fixture::with(false, |settings| settings.removal_hold = None);
    f.discover(&[(1, 1, 0)]);
    f.discover(&[]);
    assert_eq!(f.candidates(), [0u16; 0]);
    f.wait(Duration::from_secs(2));
    assert!(f.cluster.snapshot().entries.is_empty());
    assert!(f.cluster.snapshot().source.is_some());
}

#[test]
fn a_burst_of_changes_is_published_at_most_every_10_ms() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0)]);
    f.wait(PUBLISH_EVERY);
    let version = f.cluster.snapshot().version;
    for weight in 2..50 {
        let endpoint = Endpoint { weight, ..fixture::endpoint(1, 1, 0) };
        let at = SystemTime::UNIX_EPOCH;
        f.task.apply(Event::Discovered(Answer::new(0, at, vec![endpoint])), f.now);
        f.task.tick(f.now);
    }
    // The first at once, since the last was 10 ms ago; the rest folded into one.
    assert_eq!(f.cluster.snapshot().version, version + 1);
    assert_eq!(f.task.next_wake(), Some(f.now + PUBLISH_EVERY));
    f.wait(PUBLISH_EVERY);
    assert_eq!(f.cluster.snapshot().version, version + 2);
    assert_eq!(f.backend(1).endpoint.weight, 49);
}

/// The end of the start may come when a snapshot was published a moment before.
#[test]
fn it_sleeps_until_there_is_something_to_do() {
    let mut f = Fixture::new(true);
    f.now = f.start + START_TIMEOUT - Duration::from_millis(5);
    f.task.apply(discovered(&[(1, 1, 0)]), f.now);
    f.task.tick(f.now);
    f.now = f.start + START_TIMEOUT;
    f.task.tick(f.now);
    let published = f.now + Duration::from_millis(5);
    assert_eq!(f.task.next_wake(), Some(published));
    f.now = published;
    f.task.tick(f.now);
    assert_eq!(f.candidates(), [1]);
}

/// Up to the next snapshot workers go by the last, in which the backend may be tried.
#[test]
fn a_trial_that_fails_is_not_followed_by_another_before_the_next_ejection_is_over() {
    let mut f = Fixture::new(false);
    f.discover(&[(1, 1, 0), (2, 1, 0)]);
    let backend = f.backend(1);
    for _ in 0..5 {
        backend.begin();
        backend.end(Outcome::Http5xx, true, true);
    }
    f.event(Event::Suspect { id: backend.id });
    let second = Duration::from_secs(1);
    // The first ejection lasts ten seconds, the second twenty.
    for length in [10, 20] {
        f.wait(second * length - second / 2);
        assert!(f.cluster.snapshot().candidates.trials.is_empty());
        f.wait(second);
        assert_eq!(f.cluster.snapshot().candidates.trials.len(), 1);
        assert!(backend.begin_trial());
        f.task.apply(Event::Trial { id: backend.id, passed: false }, f.now);
        assert!(!backend.begin_trial());
        // One of an earlier time that comes late.
        f.event(Event::Trial { id: backend.id, passed: false });
    }
    assert_eq!(f.state(1), State::Ejected);
}
