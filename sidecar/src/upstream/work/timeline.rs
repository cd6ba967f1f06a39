//! How a backend is drained, second by second: the cluster's task and a worker's list of work
//! together, on a clock that does not wait.

use std::sync::Arc;

use super::*;
use crate::cluster::{Backend, Cluster, Event, Key, Leaving, Order, Picker, What, Wish, fixture};

const BOTH: [(u16, u32, u16); 2] = [(1, 1, 0), (2, 1, 0)];
/// From what is due to when a worker has seen it.
const SOON: Duration = Duration::from_millis(250);

/// Two backends, of which the first is to be drained, and one worker.
struct World {
    cluster: Arc<Cluster>,
    picker: Picker,
    works: Rc<Works>,
    first: Arc<Backend>,
    start: Instant,
    counted: Box<dyn Fn() -> String>,
}

impl World {
    fn new(tables: &str) -> Self {
        let settings = fixture::settings(&format!(
            "[clusters.api.affinity]\nby = \"cookie\"\n[clusters.api.drain]\n{tables}"
        ));
        let (cluster, mut task, metrics) = fixture::cluster(settings, Duration::ZERO);
        task.seed(0, BOTH.map(|(port, ..)| fixture::endpoint(port, 1, 0)).into());
        tokio::spawn(task.run());
        let picker = Picker::new(Arc::clone(&cluster), fastrand::Rng::with_seed(1));
        let first = Arc::clone(&cluster.snapshot().entries[0].backend);
        let counted = Box::new(move || metrics.render(&[]));
        Self { cluster, picker, works: Rc::default(), first, start: Instant::now(), counted }
    }

    fn pick(&mut self, key: Key) -> Work {
        let wish = Wish { key, tried: &[], replayable: true, now: Instant::now() };
        self.works.begin(self.picker.pick(wish, Backend::may_connect).unwrap())
    }

    /// A client whose cookie names the first backend; true when it is sent there.
    fn stays(&mut self) -> bool {
        let tag = self.first.tags.unwrap().signing();
        let mut work = self.pick(Key::Tag(tag));
        work.pick.answered(false, None);
        work.pick.backend.id == self.first.id
    }

    /// Whether new clients are sent to the first backend.
    fn is_picked(&mut self) -> bool {
        (0..100).any(|_| self.pick(Key::None).pick.backend.id == self.first.id)
    }

    async fn order(&mut self, what: What) {
        let (order, outcome) = Order::new(self.first.name.to_string(), what);
        self.cluster.events().send(Event::Order(order)).await.unwrap();
        outcome.await.unwrap().unwrap();
    }

    async fn discover(&mut self, endpoints: &[(u16, u32, u16)]) {
        let mut version = self.cluster.version();
        version.mark_unchanged();
        self.cluster.events().send(fixture::discovered(endpoints)).await.unwrap();
        version.changed().await.unwrap();
    }

    /// Lets the worker work until so long after the start.
    async fn at(&mut self, time: Duration) {
        while self.start.elapsed() < time {
            let tick = Instant::now() + TICK;
            tokio::time::sleep_until(tick.min(self.start + time)).await;
            self.works.follow(self.picker.snapshot(), Instant::now());
        }
    }

    /// How the first backend is left; `None` when it is not, or has gone.
    fn leaving(&mut self) -> Option<Leaving> {
        let snapshot = self.picker.snapshot();
        snapshot.entries[snapshot.find(self.first.id)?].leaving
    }

    fn drains(&self, result: &str) -> usize {
        let label = format!("result=\"{result}\"}} ");
        let text = (self.counted)();
        let mut lines = text.lines().filter(|line| line.starts_with("outrigger_drains_total"));
        let counted = lines.find_map(|line| line.split_once(&label)?.1.parse().ok());
        counted.unwrap_or_default()
    }
}

fn signal(work: &Work) -> Poll<Signal> {
    work.poll(&mut Context::from_waker(Waker::noop()))
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

const ORDER: What = What::Drain { timeout: None };

#[tokio::test(start_paused = true)]
async fn existing_work_has_until_the_deadline_and_is_then_ended() {
    let mut world = World::new("timeout = \"30s\"\n");
    let stream = world.pick(Key::Tag(world.first.tags.unwrap().signing()));
    assert_eq!(stream.pick.backend.id, world.first.id);

    // At the start nobody new comes, and whoever belongs there does.
    world.order(ORDER).await;
    assert!(!world.is_picked() && world.stays());

    // A second later it is not done, since somebody is there.
    world.at(secs(1.5)).await;
    let leaving = world.leaving().unwrap();
    assert_eq!((leaving.done, leaving.cut), (false, Cut::At(leaving.deadline)));
    assert!(!world.is_picked() && world.stays());

    world.at(secs(29.9)).await;
    assert!(signal(&stream).is_pending() && world.stays() && !world.leaving().unwrap().done);

    // At the deadline what is left is told to end, within a second, and nobody comes any more.
    world.at(secs(30.0) + SOON).await;
    assert!(!world.is_picked() && !world.stays());
    world.at(secs(31.0) + SOON).await;
    assert_eq!(signal(&stream), Poll::Ready(Signal::Cut));
    assert!(!world.leaving().unwrap().done);
    drop(stream);
    world.at(secs(31.5) + SOON).await;
    assert!(world.leaving().unwrap().done);
    assert_eq!(world.first.forced(), 1);
    assert_eq!((world.drains("forced"), world.drains("completed")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_second_without_work_is_the_end() {
    let mut world = World::new("timeout = \"30s\"\n");
    world.order(ORDER).await;
    // Short requests of one client, none of which lasts until the cluster looks.
    for tick in 1..=10 {
        world.at(secs(0.3) * tick).await;
        assert!(world.stays() && !world.is_picked());
    }
    world.at(secs(3.9)).await;
    assert!(!world.leaving().unwrap().done);
    world.at(secs(4.2) + SOON).await;
    assert!(world.leaving().unwrap().done && !world.stays());
    assert_eq!((world.drains("forced"), world.drains("completed")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn without_keep_affinity_nobody_comes() {
    let mut world = World::new("keep_affinity = false\n");
    assert!(world.is_picked() && world.stays());
    world.order(ORDER).await;
    assert!(!world.is_picked() && !world.stays());
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_is_taken_back_leaves_everything_as_it_was() {
    let mut world = World::new("timeout = \"30s\"\n");
    let stream = world.pick(Key::Tag(world.first.tags.unwrap().signing()));
    assert!(world.stays());
    let usual = world.first.ewma();
    world.order(ORDER).await;
    world.at(secs(20.0)).await;
    world.order(What::Resume { all: false }).await;
    assert!(world.is_picked() && world.stays() && world.leaving().is_none());
    assert_eq!((world.first.in_flight(), world.first.ewma()), (1, usual));
    world.at(secs(40.0)).await;
    assert!(signal(&stream).is_pending());
    assert_eq!((world.first.forced(), world.drains("cancelled")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_order_and_a_removal_add_up_and_end_by_themselves() {
    let mut world = World::new("timeout = \"30s\"\n");
    let stream = world.pick(Key::Tag(world.first.tags.unwrap().signing()));
    world.order(ORDER).await;
    let deadline = world.leaving().unwrap().deadline;
    world.at(secs(5.0)).await;
    world.discover(&BOTH[1..]).await;
    let both = world.leaving().unwrap();
    assert_eq!((both.deadline, both.removed), (deadline, true));

    // Discovery names it again: the order stands.
    world.at(secs(10.0)).await;
    world.discover(&BOTH).await;
    let ordered = world.leaving().unwrap();
    assert_eq!((ordered.deadline, ordered.removed), (deadline, false));
    assert!(!world.is_picked());

    // The order is taken back while it is removed again: it goes by the removal.
    world.at(secs(12.0)).await;
    world.discover(&BOTH[1..]).await;
    let removed_at = Instant::now();
    world.order(What::Resume { all: false }).await;
    let removed = world.leaving().unwrap();
    assert!(removed.deadline > deadline && removed.deadline <= removed_at + secs(30.0));
    assert!(!world.is_picked());
    world.at(secs(31.0) + SOON).await;
    assert!(signal(&stream).is_pending());
    world.at(secs(43.0) + SOON).await;
    assert_eq!(signal(&stream), Poll::Ready(Signal::Cut));
    drop(stream);
    world.at(secs(44.0)).await;
    assert!(world.picker.snapshot().find(world.first.id).is_none());

    // It is remembered, and comes back as itself.
    world.discover(&BOTH).await;
    assert!(world.is_picked() && world.stays());
}
