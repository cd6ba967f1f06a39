//! The stream that a lease lives as long as.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::Shared;
use futures_util::{FutureExt, StreamExt, stream};
use outrigger_proto::v1::{OpenLeaseRequest, OpenLeaseResponse};
use tokio::sync::oneshot;
use tonic::Streaming;

use crate::Client;
use crate::error::Error;

/// Resolves when the app has ended the lease.
#[derive(Debug, Clone)]
pub(super) struct Ending(Shared<oneshot::Receiver<()>>);

impl Ending {
    pub(super) fn new() -> (oneshot::Sender<()>, Self) {
        let (end, ending) = oneshot::channel();
        (end, Self(ending.shared()))
    }

    pub(super) fn has_come(&self) -> bool {
        self.clone().now_or_never().is_some()
    }
}

impl Future for Ending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(context).map(drop)
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: String,
    answers: Streaming<OpenLeaseResponse>,
}

impl Line {
    /// Opens a lease, whose orders end when this is dropped. At the `ending` it tells the sidecar that
    /// no more will come, to hear when all is taken back.
    pub(super) async fn open(client: &Client, owner: &str, ending: Ending) -> Result<Self, Error> {
        client.persist(client.deadline(), || Self::attempt(client, owner, ending.clone())).await
    }

    async fn attempt(client: &Client, owner: &str, ending: Ending) -> Result<Self, Error> {
        let first = OpenLeaseRequest { owner: owner.into() };
        let requests = stream::once(ready(first)).chain(stream::pending().take_until(ending));
        let mut answers = client.api().open_lease(requests).await?.into_inner();
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Error::lost("the lease has ended at once"))?;
        Ok(Self { id: answer.lease_id, answers })
    }

    /// Waits until the sidecar has ended it, or is gone.
    pub(super) async fn ended(&mut self) {
        while let Ok(Some(_)) = self.answers.message().await {}
    }
}
