//! The backends of a cluster, followed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use outrigger_proto::v1::{WatchClusterRequest, WatchClusterResponse};
use tokio::time::sleep;
use tonic::Streaming;

use crate::Client;
use crate::backend::Backend;
use crate::backoff::Backoff;
use crate::error::Error;

/// All backends of a cluster at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub cluster: String,
    /// Tells the life of the sidecar that has seen it from others.
    pub instance: String,
    pub version: u64,
    /// Whether backends in doubt are used because too few others are left.
    pub panic: bool,
    /// In the order of their names.
    pub backends: Vec<Arc<Backend>>,
}

impl View {
    pub fn backend(&self, name: &str) -> Option<&Arc<Backend>> {
        let found = self.backends.binary_search_by(|backend| backend.name.as_str().cmp(name));
        found.ok().and_then(|place| self.backends.get(place))
    }
}

/// See [`Client::watch`].
pub(crate) fn watch(
    client: Client,
    cluster: &str,
) -> Pin<Box<dyn Stream<Item = Result<Arc<View>, Error>> + Send>> {
    let follower = Follower::new(client, cluster);
    Box::pin(stream::try_unfold(follower, |mut follower| async {
        let view = follower.next_whatever_happens().await?;
        Ok(Some((view, follower)))
    }))
}

/// One watch after another over one set of backends.
#[derive(Debug)]
pub(crate) struct Follower {
    client: Client,
    cluster: String,
    /// The last whole set; `instance` is empty before the first.
    backends: BTreeMap<String, Arc<Backend>>,
    instance: String,
    version: u64,
    messages: Option<Streaming<WatchClusterResponse>>,
}

impl Follower {
    pub(crate) fn new(client: Client, cluster: &str) -> Self {
        let (backends, instance) = (BTreeMap::new(), String::new());
        Self { client, cluster: cluster.into(), backends, instance, version: 0, messages: None }
    }

    /// Waits for a sidecar that has been there before.
    async fn next_whatever_happens(&mut self) -> Result<Arc<View>, Error> {
        let mut backoff = Backoff::default();
        loop {
            let next = match self.messages {
                Some(_) => self.next().await,
                None => match self.open().await {
                    Ok(()) => self.next().await,
                    Err(error) => Err(error),
                },
            };
            match next {
                Err(error) if error.is_unavailable() && !self.instance.is_empty() => {
                    sleep(backoff.pause()).await;
                }
                done => return done,
            }
        }
    }

    /// Begins to watch, where the last watch ended.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        let request = WatchClusterRequest {
            cluster: self.cluster.clone(),
            instance: self.instance.clone(),
            version: self.version,
        };
        let client = &self.client;
        let open = || async { Ok(client.api().watch_cluster(request.clone()).await?.into_inner()) };
        self.messages = Some(client.persist(client.deadline(), open).await?);
        Ok(())
    }

    /// The set after the next change. After an error the watch is to be opened again.
    pub(crate) async fn next(&mut self) -> Result<Arc<View>, Error> {
        let change = self.next_change().await;
        if change.is_err() {
            self.messages = None;
        }
        Ok(self.apply(change?))
    }

    /// All messages of a change: half of one is none.
    async fn next_change(&mut self) -> Result<Vec<WatchClusterResponse>, Error> {
        let gone = || Error::lost("the watch has ended");
        let messages = self.messages.as_mut().ok_or_else(gone)?;
        let mut change = Vec::new();
        loop {
            let message = messages.message().await?.ok_or_else(gone)?;
            let more = message.more;
            change.push(message);
            if !more {
                return Ok(change);
            }
        }
    }

    fn apply(&mut self, change: Vec<WatchClusterResponse>) -> Arc<View> {
        let mut panic = false;
        for message in change {
            if message.full {
                self.backends.clear();
            }
            for name in &message.removed {
                self.backends.remove(name);
            }
            let changed = message.changed.into_iter().map(Backend::from);
            self.backends.extend(changed.map(|b| (b.name.clone(), Arc::new(b))));
            (self.instance, self.version, panic) =
                (message.instance, message.version, message.panic);
        }
        Arc::new(View {
            cluster: self.cluster.clone(),
            instance: self.instance.clone(),
            version: self.version,
            panic,
            backends: self.backends.values().cloned().collect(),
        })
    }
}
