//! Where keys lead, as the sidecar has said.

use std::sync::Arc;
use std::time::Duration;

use papaya::{Compute, HashMap, Operation};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long an answer counts if the set does not change: a pin need not change it.
const KEPT: Duration = Duration::from_secs(1);
/// More keys are not remembered: as many as may be pinned in a cluster.
const MAX_KEYS: usize = 65_536;

/// Answers by key. Who has one waits for nobody, and several who need the same ask once.
#[derive(Debug, Default)]
pub(super) struct Keys {
    asked: HashMap<Box<str>, Arc<Asked>>,
}

#[derive(Debug)]
struct Asked {
    /// The number of the set that it was asked for.
    set: u64,
    at: Instant,
    home: OnceCell<Option<Arc<str>>>,
    /// What was said before, which counts if nothing is said now.
    before: Option<Arc<str>>,
}

impl Keys {
    /// The backend that `key` leads to: as it was told for the set of this number, else as `ask` is told.
    pub(super) async fn home<E>(
        &self,
        key: &str,
        set: u64,
        ask: impl AsyncFnOnce() -> Result<Option<String>, E>,
    ) -> Option<Arc<str>> {
        let asked = self.asked_for(key, set);
        let home = asked.home.get_or_init(async || match ask().await {
            Ok(home) => home.map(Arc::from),
            Err(_) => asked.before.clone(),
        });
        home.await.clone()
    }

    /// The backend that `key` was last said to lead to.
    pub(super) fn last_home(&self, key: &str) -> Option<Arc<str>> {
        self.asked.pin().get(key).and_then(|asked| asked.last())
    }

    fn asked_for(&self, key: &str, set: u64) -> Arc<Asked> {
        let asked = self.asked.pin();
        if let Some(asked) = asked.get(key).filter(|asked| asked.counts(set)) {
            return Arc::clone(asked);
        }
        if asked.len() >= MAX_KEYS {
            asked.clear();
        }
        let again = |last: Option<&Arc<Asked>>| Asked {
            set,
            at: Instant::now(),
            home: OnceCell::new(),
            before: last.and_then(|asked| asked.last()),
        };
        let done = asked.compute(key.into(), |entry| match entry {
            Some((_, asked)) if asked.counts(set) => Operation::Abort(Arc::clone(asked)),
            last => Operation::Insert(Arc::new(again(last.map(|(_, asked)| asked)))),
        });
        match done {
            Compute::Inserted(_, asked) | Compute::Updated { new: (_, asked), .. } => {
                Arc::clone(asked)
            }
            Compute::Aborted(asked) => asked,
            Compute::Removed(..) => Arc::new(again(None)),
        }
    }
}

impl Asked {
    fn counts(&self, set: u64) -> bool {
        self.set == set && self.at.elapsed() < KEPT
    }

    fn last(&self) -> Option<Arc<str>> {
        self.home.get().unwrap_or(&self.before).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_asked_for_once_until_the_set_changes_or_the_answer_is_old() {
        let (keys, times) = (Keys::default(), AtomicUsize::new(0));
        let home = async |set| {
            keys.home("k", set, async || {
                times.fetch_add(1, Ordering::Relaxed);
                Ok::<_, ()>(Some("a".to_owned()))
            })
            .await
        };
        let (one, other) = tokio::join!(home(1), home(1));
        assert_eq!((one.as_deref(), other.as_deref()), (Some("a"), Some("a")));
        assert_eq!(times.load(Ordering::Relaxed), 1);
        home(2).await;
        assert_eq!(times.load(Ordering::Relaxed), 2);
        tokio::time::advance(KEPT).await;
        home(2).await;
        assert_eq!(times.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn what_was_said_last_counts_if_nothing_is_said_now() {
        let keys = Keys::default();
        keys.home("k", 1, async || Ok::<_, ()>(Some("a".to_owned()))).await;
        for set in 2..4 {
            assert_eq!(keys.home("k", set, async || Err(())).await.as_deref(), Some("a"));
        }
        assert_eq!(keys.last_home("k").as_deref(), Some("a"));
        assert_eq!(keys.home("other", 1, async || Err(())).await, None);
    }

    #[tokio::test]
    async fn no_more_keys_are_remembered_than_may_be_pinned() {
        let keys = Keys::default();
        for key in 0..MAX_KEYS + 10 {
            keys.home(&key.to_string(), 1, async || Ok::<_, ()>(None)).await;
        }
        assert!(keys.asked.len() <= MAX_KEYS);
    }
}
