//! Direct mode: the app picks by the sidecar's view, and connects to backends itself, without the hop.

mod channel;
mod keys;
mod member;
mod set;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::Client;
use crate::backoff::Backoff;
use crate::client::within;
use crate::error::Error;
use crate::watch::{Follower, View};

pub use channel::BalancedChannel;
use keys::Keys;
pub use member::Pick;
use set::Set;
use tally::Counted;

/// How often outcomes are told to the sidecar, and how many at a time.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
const MAX_COUNT: u32 = 1000;
/// The step of a Weyl sequence: 2^64 divided by the golden ratio. Turns that far apart on the circle of
/// shares leave no gaps, so backends are picked as evenly as their shares allow, however many they are.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Picks backends of a cluster as the sidecar does: by their shares, in which weights, orders, drains,
/// health, tiers and panic all are, and where a key leads, by asking.
///
/// It follows the sidecar in the background. When that is away the last set stays. Clones share it all.
#[derive(Debug, Clone)]
pub struct Balancer {
    shared: Arc<Shared>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    cluster: String,
    set: ArcSwap<Set>,
    turn: AtomicU64,
    keys: Keys,
    /// Whether the sidecar is there to be asked.
    is_watched: AtomicBool,
}

impl Balancer {
    /// Returns when the backends are known: [`Error::Unavailable`] if they are not within the client's
    /// deadline, [`Error::NotFound`] if there is no such cluster.
    pub async fn new(client: Client, cluster: &str) -> Result<Self, Error> {
        let mut follower = Follower::new(client.clone(), cluster);
        let first = async {
            follower.open().await?;
            follower.next().await
        };
        let view = within(client.deadline(), first).await?;
        let shared = Arc::new(Shared {
            client,
            cluster: cluster.into(),
            set: ArcSwap::from_pointee(Set::new(view, None)),
            // Apps that start together are not to begin with the same backend.
            turn: AtomicU64::new(fastrand::u64(..)),
            keys: Keys::default(),
            is_watched: AtomicBool::new(true),
        });
        let tasks = [
            tokio::spawn(Arc::clone(&shared).follow(follower)),
            tokio::spawn(Arc::clone(&shared).report()),
        ];
        Ok(Self { shared, _tasks: Arc::new(tasks.map(AbortOnDropHandle::new)) })
    }

    /// A backend by shares; `None` if nobody may be picked. Waits for nothing.
    pub fn pick(&self) -> Option<Pick> {
        let turn = self.shared.turn.fetch_add(STEP, Ordering::Relaxed);
        let set = self.shared.set.load();
        set.at(turn).map(|member| Pick { member: Arc::clone(member) })
    }

    /// The backend that a key leads to, or one by shares if it leads nowhere.
    ///
    /// The sidecar is asked once for each key, and again when the backends have changed, or after a
    /// second. While it is away a key leads where it last did.
    pub async fn pick_for(&self, key: &str) -> Option<Pick> {
        let home = self.shared.home(key).await;
        let set = self.shared.set.load();
        let member = home.and_then(|home| set.find(&home).map(Arc::clone));
        member.map(|member| Pick { member }).or_else(|| self.pick())
    }

    /// A channel for tonic clients whose calls go to the backends themselves.
    pub fn channel(&self) -> BalancedChannel {
        BalancedChannel::new(self.clone())
    }

    pub fn cluster(&self) -> &str {
        &self.shared.cluster
    }

    /// The backends that are picked from.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.set.load().view)
    }
}

impl Shared {
    async fn home(&self, key: &str) -> Option<Arc<str>> {
        if !self.is_watched.load(Ordering::Relaxed) {
            return self.keys.last_home(key);
        }
        let set = self.set.load().number;
        let ask = async || {
            let affinity = self.client.affinity(&self.cluster, key).await?;
            Ok::<_, Error>(affinity.backend)
        };
        self.keys.home(key, set, ask).await
    }

    /// Has the set be as the sidecar says, for as long as the app wants it.
    async fn follow(self: Arc<Self>, mut follower: Follower) {
        loop {
            while let Ok(view) = follower.next().await {
                self.take_over(view);
            }
            self.is_watched.store(false, Ordering::Relaxed);
            let mut backoff = Backoff::default();
            sleep(backoff.pause()).await;
            while follower.open().await.is_err() {
                sleep(backoff.pause()).await;
            }
            self.is_watched.store(true, Ordering::Relaxed);
        }
    }

    /// A sidecar that has just started may not have found its backends yet: what its predecessor knew
    /// stays until it has.
    fn take_over(&self, view: Arc<View>) {
        let before = self.set.load();
        let is_another = view.instance != before.view.instance;
        let set = Set::new(view, Some(&before));
        if set.is_usable() || !is_another {
            self.set.store(Arc::new(set));
        }
    }

    async fn report(self: Arc<Self>) {
        let mut turns = interval(REPORT_INTERVAL);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let set = self.set.load_full();
            for member in set.members() {
                for counted in member.kept.tally.take() {
                    self.tell(&member.backend.name, &counted).await;
                }
            }
        }
    }

    /// What is told late misleads, so what cannot be told now is left out.
    async fn tell(&self, backend: &str, counted: &Counted) {
        let Counted { outcome, mut count, latency } = *counted;
        while count > 0 && self.is_watched.load(Ordering::Relaxed) {
            let some = count.min(MAX_COUNT);
            let told = self.client.report(&self.cluster, backend, outcome, latency, some).await;
            count = if told.is_ok() { count - some } else { 0 };
        }
    }
}
