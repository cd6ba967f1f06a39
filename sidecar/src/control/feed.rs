//! What has changed of one cluster, for all its watchers.
//!
//! Of every backend the last change is kept, in the order in which they came. So whoever knows all up
//! to some point lacks what stands after it, and whoever knows nothing lacks what stands after the
//! beginning: a full set is told in the same way as a change. Nothing waits for a watcher. One that is
//! slow finds what it has missed in its newest form, and what a watcher costs is its place in that
//! order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outrigger_proto::v1;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::clusters;
use crate::cluster::{Clock, Cluster};

/// Backends that are gone are remembered so many at a time. A watcher that lacks more begins anew.
const GONE: usize = if cfg!(test) { 8 } else { 4_096 };
/// Bytes of a message: it fits into the buffer that each stream has anyway.
const MESSAGE: usize = 7 << 10;
/// After a look at a cluster, the next one comes after so many times what it took: then no cluster,
/// however large, takes more than a tenth of the thread that gives orders.
const REST: u32 = 9;
/// What it takes to tell one watcher, roughly ten times over for the same reason.
const REST_FOR_WATCHER: Duration = Duration::from_micros(200);

#[derive(Debug)]
pub struct Feed {
    cluster: Arc<Cluster>,
    /// Whether there has been a watcher.
    wanted: watch::Sender<bool>,
    /// The version that the last look has seen; `None` before the first.
    seen: watch::Sender<Option<u64>>,
    changes: Mutex<Changes>,
}

/// A version, and a number that counts up with every change.
type Point = (u64, u64);

#[derive(Debug, Default)]
struct Changes {
    version: u64,
    panic: bool,
    counted: u64,
    /// The last change of each backend.
    last: BTreeMap<Point, Change>,
    /// Where to find that of a backend, by its name.
    points: HashMap<String, Point>,
    /// The removals, the oldest first; and up to which version they are forgotten.
    gone: VecDeque<Point>,
    forgotten: u64,
}

#[derive(Debug)]
enum Change {
    /// It is so now.
    Is(v1::Backend),
    Gone(String),
}

/// What a watcher knows.
#[derive(Debug)]
pub(super) struct Cursor {
    /// All changes up to here.
    point: Point,
    /// The version of the last set that it has had whole, or that was there when it began.
    whole: u64,
    /// Whether the next message begins a full set.
    full: bool,
    /// Whether it is told how things stand even if it knows.
    ask: bool,
    panic: bool,
}

impl Feed {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        let (wanted, seen) = (watch::Sender::new(false), watch::Sender::new(None));
        Self { cluster, wanted, seen, changes: Mutex::default() }
    }

    /// The name of the cluster.
    pub(super) fn name(&self) -> &str {
        self.cluster.name()
    }

    /// The version of the cluster as it is now.
    pub(super) fn version(&self) -> u64 {
        self.cluster.snapshot().version
    }

    /// Looks at the cluster whenever it has changed, from the first watcher on.
    pub async fn follow(self: Arc<Self>) {
        let mut wanted = self.wanted.subscribe();
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let (mut versions, mut clock) = (self.cluster.version(), Clock::now());
        loop {
            versions.borrow_and_update();
            let began = Instant::now();
            clock = clock.checked();
            self.look(&clock);
            let watchers = u32::try_from(self.seen.receiver_count()).unwrap_or(u32::MAX);
            let rest = began.elapsed() * REST + REST_FOR_WATCHER * watchers;
            tokio::time::sleep(rest).await;
            if versions.changed().await.is_err() {
                return;
            }
        }
    }

    fn look(&self, clock: &Clock) {
        let snapshot = self.cluster.snapshot();
        let places = 0..snapshot.entries.len();
        let shown = |place| clusters::unmeasured(&self.cluster, &snapshot, place, clock);
        let panic = snapshot.candidates.panic;
        self.changes().take_in(snapshot.version, panic, places.map(shown));
        self.seen.send_replace(Some(snapshot.version));
    }

    /// Changes with every look that has found something new.
    pub(super) fn seen(&self) -> watch::Receiver<Option<u64>> {
        self.wanted.send_replace(true);
        self.seen.subscribe()
    }

    /// What whoever was told all up to this version has to be told; `None`: it knows nothing.
    pub(super) fn cursor(&self, version: Option<u64>) -> Cursor {
        let changes = self.changes();
        version.map_or_else(|| changes.beginning(), |version| changes.after(version))
    }

    /// The next message; nothing if there is nothing new.
    pub(super) fn next(&self, cursor: &mut Cursor) -> Option<v1::WatchClusterResponse> {
        self.changes().next(cursor)
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    fn take_in(&mut self, version: u64, panic: bool, set: impl Iterator<Item = v1::Backend>) {
        (self.version, self.panic) = (version, panic);
        let mut there = HashSet::new();
        for backend in set {
            there.insert(backend.name.clone());
            if !self.is(&backend) {
                self.put(Change::Is(backend));
            }
        }
        let is_gone = |change: &&Change| match change {
            Change::Is(backend) => !there.contains(&backend.name),
            Change::Gone(_) => false,
        };
        let gone: Vec<_> = self.last.values().filter(is_gone).map(Change::name).collect();
        for name in gone {
            self.put(Change::Gone(name));
        }
        self.forget();
    }

    fn is(&self, backend: &v1::Backend) -> bool {
        let last = self.points.get(&backend.name).and_then(|point| self.last.get(point));
        matches!(last, Some(Change::Is(known)) if known == backend)
    }

    fn put(&mut self, change: Change) {
        self.counted += 1;
        let point = (self.version, self.counted);
        if let Some(before) = self.points.insert(change.name(), point) {
            self.last.remove(&before);
        }
        if let Change::Gone(_) = change {
            self.gone.push_back(point);
        }
        self.last.insert(point, change);
    }

    fn forget(&mut self) {
        while self.gone.len() > GONE {
            let Some(point) = self.gone.pop_front() else { return };
            self.forgotten = point.0;
            // It may have come back since.
            if let Some(Change::Gone(name)) = self.last.remove(&point) {
                self.points.remove(&name);
            }
        }
    }

    fn knows_since(&self, version: u64) -> bool {
        (self.forgotten..=self.version).contains(&version)
    }

    fn beginning(&self) -> Cursor {
        Cursor { point: (0, 0), whole: self.version, full: true, ask: true, panic: self.panic }
    }

    /// Of whoever has had the set of this version, if that is still of use.
    fn after(&self, version: u64) -> Cursor {
        match self.knows_since(version) {
            true => Cursor {
                point: (version, u64::MAX),
                whole: version,
                full: false,
                ..self.beginning()
            },
            false => self.beginning(),
        }
    }

    fn next(&self, cursor: &mut Cursor) -> Option<v1::WatchClusterResponse> {
        if !self.knows_since(cursor.whole) {
            *cursor = self.beginning();
        }
        let mut message = v1::WatchClusterResponse {
            version: self.version,
            full: cursor.full,
            panic: self.panic,
            ..Default::default()
        };
        let mut room = MESSAGE;
        for (point, change) in self.last.range((Bound::Excluded(cursor.point), Bound::Unbounded)) {
            let length = change.length();
            if length > room && room < MESSAGE {
                message.more = true;
                break;
            }
            room = room.saturating_sub(length);
            cursor.point = *point;
            match change {
                Change::Is(backend) => message.changed.push(backend.clone()),
                // What was gone before the set began was never in it.
                Change::Gone(name) if point.0 > cursor.whole => message.removed.push(name.clone()),
                Change::Gone(_) => {}
            }
        }
        let news = cursor.ask
            || cursor.panic != self.panic
            || !message.changed.is_empty()
            || !message.removed.is_empty();
        (cursor.full, cursor.ask, cursor.panic) = (false, message.more, self.panic);
        if !message.more {
            cursor.whole = self.version;
        }
        news.then_some(message)
    }
}

impl Change {
    fn name(&self) -> String {
        match self {
            Self::Is(backend) => backend.name.clone(),
            Self::Gone(name) => name.clone(),
        }
    }

    /// In a message, roughly.
    fn length(&self) -> usize {
        4 + match self {
            Self::Is(backend) => backend.encoded_len(),
            Self::Gone(name) => name.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A watcher that does what the protocol says.
    struct Watcher {
        cursor: Cursor,
        set: BTreeMap<String, v1::Backend>,
        version: u64,
    }

    impl Watcher {
        fn new(changes: &Changes) -> Self {
            Self { cursor: changes.beginning(), set: BTreeMap::new(), version: 0 }
        }

        /// Takes one message; true if there was one, and the set is whole.
        fn take(&mut self, changes: &Changes) -> Option<bool> {
            let message = changes.next(&mut self.cursor)?;
            assert!(message.encoded_len() < MESSAGE + 200 || message.changed.len() == 1);
            if message.full {
                self.set.clear();
            }
            for name in message.removed {
                self.set.remove(&name);
            }
            for backend in message.changed {
                self.set.insert(backend.name.clone(), backend);
            }
            self.version = message.version;
            Some(!message.more)
        }
    }

    fn backend(name: u32, weight: u32) -> v1::Backend {
        let (name, reason) = (format!("10.0.0.{name}:80"), "x".repeat(300));
        v1::Backend { name, reason, share: weight, ..Default::default() }
    }

    /// Whatever happens in whatever order: a set that is said to be whole is the one that there is.
    #[test]
    fn every_whole_set_is_the_truth_however_slow_the_watcher() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut changes, mut world, mut version) = (Changes::default(), BTreeMap::new(), 0);
            changes.take_in(version, false, std::iter::empty());
            let mut watchers: Vec<_> = (0..4).map(|_| Watcher::new(&changes)).collect();
            for _ in 0..200 {
                for _ in 0..rng.u32(0..20) {
                    let name = rng.u32(0..100);
                    match rng.u32(0..3) {
                        0 => drop(world.remove(&name)),
                        _ => drop(world.insert(name, backend(name, rng.u32(1..4)))),
                    }
                }
                version += 1;
                changes.take_in(version, rng.bool(), world.values().cloned());
                let truth = || world.values().map(|b| (b.name.clone(), b.clone())).collect();
                for watcher in &mut watchers {
                    let mut whole = false;
                    for _ in 0..rng.u32(0..8) {
                        match watcher.take(&changes) {
                            Some(is) => whole = is,
                            None => break,
                        }
                    }
                    if whole {
                        assert_eq!(watcher.version, version);
                        assert_eq!(watcher.set, truth(), "seed {seed}, version {version}");
                        if rng.u32(0..10) == 0 {
                            watcher.cursor = changes.after(watcher.version);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_known_is_not_told_again() {
        let mut changes = Changes::default();
        changes.take_in(1, false, (0..3).map(|name| backend(name, 1)));
        let mut watcher = Watcher::new(&changes);
        assert_eq!((watcher.take(&changes), watcher.set.len()), (Some(true), 3));
        assert_eq!(watcher.take(&changes), None);
        changes.take_in(2, false, (0..3).map(|name| backend(name, 1)));
        assert_eq!(watcher.take(&changes), None, "another version of the same");
        changes.take_in(3, true, (0..3).map(|name| backend(name, 1)));
        assert_eq!(watcher.take(&changes), Some(true), "panic is news");

        let mut cursor = changes.after(1);
        let message = changes.next(&mut cursor).unwrap();
        assert!(!message.full && message.changed.is_empty(), "{message:?}");
        assert_eq!((message.version, message.panic), (3, true));
        changes.take_in(4, true, (1..3).map(|name| backend(name, name)));
        let message = changes.next(&mut cursor).unwrap();
        assert_eq!(message.removed, ["10.0.0.0:80"]);
        assert_eq!(message.changed, [backend(2, 2)]);
    }

    #[test]
    fn who_has_missed_more_removals_than_are_remembered_begins_anew() {
        let mut changes = Changes::default();
        changes.take_in(1, false, (0..100).map(|name| backend(name, 1)));
        assert!(!changes.next(&mut changes.after(1)).unwrap().full);
        changes.take_in(2, false, (0..100 - GONE as u32).map(|name| backend(name, 1)));
        let message = changes.next(&mut changes.after(1)).unwrap();
        assert_eq!((message.full, message.removed.len()), (false, GONE));
        changes.take_in(3, false, std::iter::empty());
        assert!(changes.next(&mut changes.after(1)).unwrap().full);
        assert_eq!(changes.last.len(), GONE);
        assert_eq!(changes.points.len(), GONE);
    }
}
