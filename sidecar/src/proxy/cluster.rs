//! A cluster as one worker uses it, whatever is spoken.

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::cluster::{Backend, Cluster, Key, NoPick, Pick, Picker, Waiting, Wish};
use crate::config::{self, AffinityKey};
use crate::telemetry::metrics::{AffinityResult, ClusterMetrics, Outcome};
use crate::upstream::{Connection, Pool, Seat, Work, Works};

/// How often a pick looks for a backend with room for a connection.
const LOOKS: usize = 4;

/// A cluster as one worker uses it.
#[derive(Debug)]
pub(in crate::proxy) struct LocalCluster {
    pub(in crate::proxy) cluster: Arc<Cluster>,
    picker: RefCell<Picker>,
    pub(in crate::proxy) pool: Pool,
    works: Rc<Works>,
}

impl LocalCluster {
    pub(in crate::proxy) fn new(cluster: Arc<Cluster>, rng: fastrand::Rng) -> Self {
        let picker = RefCell::new(Picker::new(Arc::clone(&cluster), rng));
        Self { cluster, picker, pool: Pool::default(), works: Rc::default() }
    }

    /// A backend, and a connection to it that was kept or may be opened; `fresh`: only one that is
    /// to be opened.
    pub(in crate::proxy) fn pick(
        &self,
        wish: Wish<'_>,
        fresh: bool,
    ) -> Result<(Work, Seat), NoPick> {
        let connects =
            |backend: &Backend| backend.may_connect() || !fresh && self.pool.has(backend.id);
        for _ in 0..LOOKS {
            let mut pick = self.picker.borrow_mut().pick(wish, connects)?;
            let kept = if fresh { None } else { self.pool.take(pick.backend.id) };
            let seat = kept.map(Seat::Kept).or_else(|| pick.backend.connect().map(Seat::Free));
            match seat {
                Some(seat) => return Ok((self.works.begin(pick), seat)),
                // Another worker was faster, or what was kept has been closed meanwhile.
                None => pick.outcome(Outcome::Unused),
            }
        }
        Err(NoPick::Full)
    }

    /// Whether somebody waits for room, so that those who come now are behind.
    pub(in crate::proxy) fn is_awaited(&self) -> bool {
        self.cluster.gate.as_ref().is_some_and(|gate| gate.is_awaited())
    }

    /// A place in the queue for room, until then; `None` when it is full. `bound`: whether it is for
    /// someone who may go to one backend only.
    pub(in crate::proxy) fn queue(&self, bound: bool, until: Instant) -> Option<Queue<'_>> {
        let place = self.cluster.gate.as_ref()?.queue()?;
        Some(Queue { place, bound, room: None, limit: Box::pin(sleep_until(until)) })
    }

    /// Whether what belongs to this key may go to one backend only.
    pub(in crate::proxy) fn binds(&self, key: Key) -> bool {
        self.settings().affinity.strict && key != Key::None
    }

    /// Takes back a connection whose last answer has been read to its end. It is closed instead if
    /// its backend is to be left, or if somebody waits for room for another.
    pub(in crate::proxy) fn give_back(&self, connection: Box<Connection>) {
        let kept = self.picker.borrow_mut().snapshot().keeps(connection.backend());
        if kept && !self.wants_connections() {
            self.pool.put(connection);
        }
    }

    /// Ends what the snapshot says is to end; to be called every [`TICK`](crate::upstream::TICK).
    pub(in crate::proxy) fn sweep(&self, now: Instant) {
        let mut picker = self.picker.borrow_mut();
        let snapshot = picker.snapshot();
        self.works.follow(snapshot, now);
        if self.wants_connections() {
            self.pool.clear();
        }
        self.pool.sweep(snapshot, now);
    }

    fn wants_connections(&self) -> bool {
        self.cluster.gate.as_ref().is_some_and(|gate| gate.wants_connections())
    }

    pub(in crate::proxy) fn settings(&self) -> &config::Cluster {
        &self.cluster.settings
    }

    pub(in crate::proxy) fn metrics(&self) -> &ClusterMetrics {
        &self.cluster.metrics
    }

    /// Where the app has bound what carries this key, which is asked for only if something is bound.
    pub(in crate::proxy) fn pinned<'k>(
        &self,
        said: impl FnOnce() -> Option<&'k [u8]>,
    ) -> Option<Key> {
        let pins = &self.cluster.pins;
        let backend = if pins.is_empty() { None } else { said().and_then(|key| pins.backend(key)) };
        backend.map(Key::Pinned)
    }

    /// What keeps a client that says this key, or is at this address, at one backend, where that does.
    pub(in crate::proxy) fn client_key(&self, said: Option<&[u8]>, client: Option<IpAddr>) -> Key {
        let key = |learned: bool| if learned { Key::learned } else { Key::hashed };
        match (&self.settings().affinity.key, said, client) {
            (AffinityKey::Header { learned }, Some(said), _) => key(*learned)(said),
            (AffinityKey::SourceIp { learned }, _, Some(IpAddr::V4(v4))) => {
                key(*learned)(&v4.octets())
            }
            (AffinityKey::SourceIp { learned }, _, Some(IpAddr::V6(v6))) => {
                key(*learned)(&v6.octets())
            }
            _ => Key::None,
        }
    }

    /// The backend that was picked for a key has answered: remembers it where keys are learned. The
    /// value is what became of the key.
    pub(in crate::proxy) fn settle(&self, key: Key, pick: &Pick) -> AffinityResult {
        match key {
            _ if pick.stayed => AffinityResult::Hit,
            Key::Learned(key) if !self.learn(key, pick) => AffinityResult::New,
            _ => AffinityResult::Moved,
        }
    }

    /// Remembers where a key went; true when it went elsewhere before.
    fn learn(&self, key: u64, pick: &Pick) -> bool {
        let Some(learned) = &self.cluster.learned else { return false };
        let now = Instant::now();
        let known = learned.get(key, now).is_some();
        learned.learn(key, pick.backend.id, now);
        known
    }
}

/// Someone who waits for room in a cluster. Whoever gives up is never sent to a backend.
#[derive(Debug)]
pub(in crate::proxy) struct Queue<'c> {
    place: Waiting<'c>,
    bound: bool,
    /// What has been asked for before the latest look, so that nothing is missed between the two.
    room: Option<Pin<Box<Notified<'c>>>>,
    limit: Pin<Box<Sleep>>,
}

/// Why somebody does not wait any longer.
#[derive(Debug)]
pub(in crate::proxy) enum GivesUp<L> {
    /// The app has left, as this tells.
    Left(L),
    Late,
}

impl Queue<'_> {
    /// Waits until it is worth to look for room, unless the app `leaves` or it takes too long.
    pub(in crate::proxy) async fn wait<L>(
        &mut self,
        leaves: impl Future<Output = L>,
    ) -> Result<(), GivesUp<L>> {
        let Self { place, bound, room, limit } = self;
        let chance = async {
            match room.take() {
                Some(room) => room.await,
                None if *bound => {}
                None => place.turn().await,
            }
            *room = Some(Box::pin(place.room()));
        };
        tokio::select! {
            biased;
            left = leaves => Err(GivesUp::Left(left)),
            () = limit => Err(GivesUp::Late),
            () = chance => Ok(()),
        }
    }
}
