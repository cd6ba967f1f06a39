//! The control API: gRPC for apps, who may say where their work goes.
//!
//! It reads snapshots, sends orders to the tasks of clusters, and runs on the control thread, away
//! from the traffic.

mod caller;
mod clusters;
mod connection;
mod drained;
mod error;
mod events;
mod feed;
mod health;
mod leases;
mod limits;
mod orders;
mod outcomes;
mod pins;
mod service;
mod services;
pub mod tokens;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, Stream};
use tokio::sync::{Semaphore, watch as channel};
use tonic::Status;

pub use connection::{Door, run};
pub use feed::Feed;
pub use services::Services;

use crate::cluster::{Cluster, History};
use crate::readiness::Readiness;
use crate::shutdown::{Guards, Phase};
use limits::Limits;

/// Calls that are open at a time, of all callers.
const STREAMS: usize = 2_000;

/// What the control API shows, and what it steers.
#[derive(Debug)]
pub struct Control {
    clusters: Vec<Arc<Cluster>>,
    /// One for each cluster, to be followed by the caller.
    pub feeds: Vec<Arc<Feed>>,
    history: Arc<History>,
    readiness: Arc<Readiness>,
    phase: channel::Receiver<Phase>,
    leases: Arc<leases::Leases>,
    limits: Limits,
    /// Room for calls.
    streams: Arc<Semaphore>,
    /// Connections that are open.
    pub connections: Guards,
    /// Tells this life of the sidecar from others.
    instance: Arc<str>,
}

impl Control {
    pub fn new(
        clusters: &[Arc<Cluster>],
        history: &Arc<History>,
        readiness: &Arc<Readiness>,
        phase: &channel::Receiver<Phase>,
    ) -> Result<Self, getrandom::Error> {
        let feeds = clusters.iter().map(|cluster| Arc::new(Feed::new(Arc::clone(cluster))));
        Ok(Self {
            feeds: feeds.collect(),
            clusters: clusters.to_vec(),
            history: Arc::clone(history),
            readiness: Arc::clone(readiness),
            phase: phase.clone(),
            leases: Arc::default(),
            limits: Limits::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            connections: Guards::default(),
            instance: format!("{:016x}", getrandom::u64()?).into(),
        })
    }

    /// Whether nothing new is taken.
    fn is_stopping(&self) -> bool {
        *self.phase.borrow() >= Phase::Closing
    }

    /// Ends when nothing new is taken.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut phase = self.phase.clone();
        async move {
            // Without a sender it is over, too.
            let _ = phase.wait_for(|phase| *phase >= Phase::Closing).await;
        }
    }

    /// The same, but that it is given up when the sidecar stops.
    async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        tokio::select! {
            biased;
            () = self.stopping() => Err(error::stopping()),
            done = work => done,
        }
    }

    /// The same, but that it ends with an error when the sidecar stops.
    fn until_stopped<T: Send + 'static>(
        &self,
        told: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let state = Some((told.boxed(), Box::pin(self.stopping())));
        let ended = |state| async {
            let (mut told, mut stopping): (BoxStream<'_, _>, Pin<Box<_>>) = state?;
            tokio::select! {
                biased;
                () = &mut stopping => Some((Err(error::stopping()), None)),
                next = told.next() => Some((next?, Some((told, stopping)))),
            }
        };
        stream::unfold(state, ended).boxed()
    }
}
