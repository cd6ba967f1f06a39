//! What has happened to clusters and their backends, and why: a ring for people who ask later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// What is remembered of all clusters together; the oldest goes first.
const CAPACITY: usize = 4_096;

/// One change. Who reads them knows by the numbers if some were missed.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Counts up by one over all clusters, from 1.
    pub number: u64,
    pub at: SystemTime,
    pub cluster: Arc<str>,
    /// `None`: it concerns the cluster as a whole.
    pub backend: Option<Arc<str>>,
    pub kind: Kind,
    pub cause: String,
    /// The kind of the source of discovery that the cluster's backends are from then.
    pub source: &'static str,
}

/// The kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Joined,
    /// Discovery dropped it.
    Removed,
    /// Discovery dropped it together with too many others to be believed at once.
    Suspect,
    /// It is no longer a suspect, or no longer gone.
    Returned,
    Healthy,
    Unhealthy,
    Ejected,
    Recovered,
    Stalled,
    Draining,
    Drained,
    Resumed,
    Weight,
    /// Keys were bound to it, or no longer are.
    Pinned,
    Unpinned,
    /// A source of discovery cannot be asked.
    Failed,
    /// It can be asked again.
    Answered,
    /// Another source is used.
    Source,
    Panic,
    PanicOver,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Removed => "removed",
            Self::Suspect => "suspect",
            Self::Returned => "returned",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Recovered => "recovered",
            Self::Stalled => "stalled",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Resumed => "resumed",
            Self::Weight => "weight",
            Self::Pinned => "pinned",
            Self::Unpinned => "unpinned",
            Self::Failed => "discovery_failed",
            Self::Answered => "discovery_answered",
            Self::Source => "source",
            Self::Panic => "panic",
            Self::PanicOver => "panic_over",
        }
    }

    /// Whether somebody should look at it.
    fn is_bad(self) -> bool {
        use Kind::{Ejected, Failed, Panic, Stalled, Suspect, Unhealthy};
        matches!(self, Suspect | Unhealthy | Ejected | Stalled | Failed | Panic)
    }
}

/// Shared by all clusters of a sidecar. Only their tasks write, so that nobody on the way of a
/// request waits for its lock.
#[derive(Debug)]
pub struct History {
    ring: Mutex<VecDeque<Happened>>,
    latest: watch::Sender<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self { ring: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl History {
    /// Remembers a change, and logs it.
    pub(super) fn note(
        &self,
        cluster: &Arc<str>,
        backend: Option<&Arc<str>>,
        kind: Kind,
        cause: String,
        source: &'static str,
    ) {
        let name = backend.map(|backend| &**backend);
        if kind.is_bad() {
            tracing::warn!(cluster = %cluster, backend = name, "{}: {cause}", kind.name());
        } else {
            tracing::info!(cluster = %cluster, backend = name, "{}: {cause}", kind.name());
        }
        let (cluster, backend) = (Arc::clone(cluster), backend.cloned());
        let mut ring = self.ring();
        let number = *self.latest.borrow() + 1;
        let at = SystemTime::now();
        ring.push_back(Happened { number, at, cluster, backend, kind, cause, source });
        if ring.len() > CAPACITY {
            ring.pop_front();
        }
        self.latest.send_replace(number);
    }

    /// The number of the latest change; it changes with every one.
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// What has happened after the change of this number, of one cluster or of all.
    pub fn since(&self, number: u64, cluster: Option<&str>) -> Vec<Happened> {
        let ring = self.ring();
        let first = ring.partition_point(|happened| happened.number <= number);
        let asked = |happened: &&Happened| cluster.is_none_or(|name| *happened.cluster == *name);
        ring.range(first..).filter(asked).cloned().collect()
    }

    /// As [`Self::since`], and the number of the latest change there is. If there is nothing, this waits
    /// until there is, or until it is `enough`.
    pub async fn news(
        &self,
        after: u64,
        cluster: Option<&str>,
        enough: impl Future<Output = ()>,
    ) -> (Vec<Happened>, u64) {
        let mut changes = self.latest();
        let mut enough = std::pin::pin!(enough);
        let mut waits = true;
        loop {
            let latest = *changes.borrow_and_update();
            // Numbers of the future are of a sidecar that was here before.
            let news = self.since(if after > latest { 0 } else { after }, cluster);
            if !news.is_empty() || !waits {
                return (news, latest);
            }
            tokio::select! {
                biased;
                () = &mut enough => waits = false,
                changed = changes.changed() => waits = changed.is_ok(),
            }
        }
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Happened>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_numbers_show_what_was_missed() {
        let history = History::default();
        let cluster: [Arc<str>; 2] = ["a".into(), "b".into()];
        for i in 0..CAPACITY + 10 {
            history.note(&cluster[i % 2], None, Kind::Source, i.to_string(), "dns");
        }
        let all = history.since(0, None);
        assert_eq!((all.len(), all[0].number, all[0].cause.as_str()), (CAPACITY, 11, "10"));
        let latest = *history.latest().borrow();
        assert_eq!(latest, CAPACITY as u64 + 10);
        assert_eq!(history.since(latest, None).len(), 0);
        let of_a = history.since(latest - 4, Some("a"));
        assert_eq!(of_a.iter().map(|h| h.number).collect::<Vec<_>>(), [latest - 3, latest - 1]);
    }
}
