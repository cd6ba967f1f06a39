//! `WatchCluster`: a full set, or what has changed since an earlier one, and then every change.

use std::sync::Arc;

use futures_util::stream::{self, Stream};
use outrigger_proto::v1;
use tokio::sync::watch;
use tonic::Status;

use super::feed::{Cursor, Feed};
use super::{Control, error};

pub(super) type Told = Result<v1::WatchClusterResponse, Status>;

pub(super) async fn watch(
    control: &Control,
    request: v1::WatchClusterRequest,
) -> Result<impl Stream<Item = Told> + Send + use<>, Status> {
    let feed = control.feeds.iter().find(|feed| feed.name() == request.cluster);
    let feed = feed.ok_or_else(|| error::not_found("cluster", &request.cluster))?;
    let mut seen = feed.seen();
    // What has changed by now is in what it is told first. It never ends while the sidecar runs.
    let now = feed.version();
    let _ = seen.wait_for(|seen| *seen >= Some(now)).await;
    let known = (request.instance == *control.instance).then_some(request.version);
    let cursor = feed.cursor(known);
    let (feed, instance) = (Arc::clone(feed), Arc::clone(&control.instance));
    let watcher = Watcher { feed, seen, cursor, instance, breathe: false };
    Ok(stream::unfold(watcher, |mut watcher| async { Some((Ok(watcher.next().await?), watcher)) }))
}

struct Watcher {
    feed: Arc<Feed>,
    seen: watch::Receiver<Option<u64>>,
    cursor: Cursor,
    instance: Arc<str>,
    breathe: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<v1::WatchClusterResponse> {
        // Others have their turn between two messages of a large set, and what is ready is sent before
        // more is made.
        if self.breathe {
            tokio::task::yield_now().await;
        }
        loop {
            self.seen.borrow_and_update();
            if let Some(message) = self.feed.next(&mut self.cursor) {
                self.breathe = message.more;
                return Some(v1::WatchClusterResponse {
                    instance: self.instance.to_string(),
                    ..message
                });
            }
            self.seen.changed().await.ok()?;
        }
    }
}
