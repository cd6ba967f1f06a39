//! The client: questions, and how a call is made.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use outrigger_proto::v1;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

use crate::answer::{Affinity, Drained, Events, Explanation};
use crate::backend::Cluster;
use crate::backoff::Backoff;
use crate::connect::{Api, Builder};
use crate::error::Error;
use crate::lease::Lease;
use crate::watch::{View, watch};

/// How often a call is tried: a sidecar that is not there is to be told of at once, but one that
/// closes a connection as the call comes is there again.
const ATTEMPTS: u32 = 3;
/// No longer waits the sidecar itself for an event.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The sidecar beside this app. Clones share one connection, on which the sidecar allows 100 streams:
/// each watch, lease and wait is one.
///
/// Every call ends within the deadline. Calls that may be repeated are tried up to three times within
/// it; without a sidecar that takes about a tenth of a second, and then is [`Error::Unavailable`].
/// Changes that come too fast for the sidecar wait for as long as it says, if there is time for that.
#[derive(Debug, Clone)]
pub struct Client {
    api: Api,
    deadline: Duration,
    owner: Arc<str>,
}

impl Client {
    /// A client by what the environment says, see [`Builder`].
    pub fn connect() -> Result<Self, Error> {
        Self::builder().connect()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(api: Api, deadline: Duration, owner: String) -> Self {
        Self { api, deadline, owner: owner.into() }
    }

    /// All clusters and their backends.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, Error> {
        self.list("").await
    }

    /// One cluster; [`Error::NotFound`] if there is none of that name.
    pub async fn cluster(&self, name: &str) -> Result<Cluster, Error> {
        let cluster = self.list(name).await?.pop();
        cluster.ok_or_else(|| Error::lost("the answer has no cluster"))
    }

    async fn list(&self, cluster: &str) -> Result<Vec<Cluster>, Error> {
        let request = v1::ListClustersRequest { cluster: cluster.into() };
        let answer =
            self.ask(request, |mut api, request| async move { api.list_clusters(request).await });
        Ok(answer.await?.clusters.into_iter().map(Cluster::from).collect())
    }

    /// The backends of a cluster: all of them now, and all of them again after every change.
    ///
    /// When the sidecar restarts the stream waits for it, and goes on with the next change. It ends with
    /// its first error: [`Error::Unavailable`] only if the sidecar was not there to begin with.
    pub fn watch(
        &self,
        cluster: &str,
    ) -> Pin<Box<dyn Stream<Item = Result<Arc<View>, Error>> + Send>> {
        watch(self.clone(), cluster)
    }

    /// A lease under which to give orders: see [`Lease`]. `owner` is what the app calls itself: 1..=64
    /// printable ASCII characters without spaces, neither `admin` nor `fleet`.
    pub async fn lease(&self, owner: &str) -> Result<Lease, Error> {
        Lease::open(self.clone(), owner).await
    }

    /// Where a key would go now, and why.
    pub async fn affinity(&self, cluster: &str, key: &str) -> Result<Affinity, Error> {
        let request = v1::GetAffinityRequest { cluster: cluster.into(), key: key.into() };
        let answer =
            self.ask(request, |mut api, request| async move { api.get_affinity(request).await });
        Ok(answer.await?.into())
    }

    /// Waits until a backend that drains has no work left, for as long as that takes: there is no
    /// deadline. [`Error::Unavailable`] if the sidecar ends meanwhile, and with it the order to drain.
    pub async fn wait_drained(&self, cluster: &str, backend: &str) -> Result<Drained, Error> {
        let request = v1::WaitDrainedRequest { cluster: cluster.into(), backend: backend.into() };
        let answer = self.api.clone().wait_drained(request).await?;
        Ok(answer.into_inner().into())
    }

    /// Events after the one with the id `after` (0: all that are remembered), of one cluster or of all.
    /// Waits up to `wait`, at most 60 s, if there is none.
    pub async fn events(
        &self,
        cluster: Option<&str>,
        after: u64,
        wait: Duration,
    ) -> Result<Events, Error> {
        let wait = wait.min(MAX_WAIT);
        let cluster = cluster.unwrap_or_default().to_owned();
        let request =
            v1::ListEventsRequest { cluster, after, wait: Some(proto_duration("wait", wait)?) };
        let answer =
            self.ask_within(wait + self.deadline, request, |mut api, request| async move {
                api.list_events(request).await
            });
        Ok(answer.await?.into())
    }

    /// Who would be picked now, for this key or for none, and why every other backend would not.
    pub async fn explain(&self, cluster: &str, key: Option<&str>) -> Result<Explanation, Error> {
        let key = key.unwrap_or_default().to_owned();
        let request = v1::ExplainRequest { cluster: cluster.into(), key };
        let answer =
            self.ask(request, |mut api, request| async move { api.explain(request).await });
        Ok(answer.await?.into())
    }

    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// Makes a call that may be repeated: until there is an answer, until another attempt would do no
    /// good, or until the time is up.
    pub(crate) async fn ask<R, T, F>(
        &self,
        request: R,
        call: impl Fn(Api, Request<R>) -> F,
    ) -> Result<T, Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_within(self.deadline, request, call).await
    }

    async fn ask_within<R, T, F>(
        &self,
        deadline: Duration,
        request: R,
        call: impl Fn(Api, Request<R>) -> F,
    ) -> Result<T, Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.persist(deadline, || self.attempt(deadline, request.clone(), &call)).await
    }

    /// Tries until it succeeds, until another attempt would do no good, or until the time is up.
    pub(crate) async fn persist<T, F>(
        &self,
        deadline: Duration,
        attempt: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + deadline;
        let attempts = async {
            let (mut backoff, mut left) = (Backoff::default(), ATTEMPTS);
            loop {
                left = left.saturating_sub(1);
                let pause = match attempt().await {
                    Err(Error::Unavailable(_)) if left > 0 => backoff.pause(),
                    // Changes come too fast, and the sidecar says when there is room again.
                    Err(Error::Exhausted { retry_after: Some(pause), .. })
                        if Instant::now() + pause < end =>
                    {
                        pause
                    }
                    done => return done,
                };
                sleep(pause).await;
            }
        };
        within(deadline, attempts).await
    }

    /// Makes a call once.
    pub(crate) async fn ask_once<R, T, F>(
        &self,
        request: R,
        call: impl Fn(Api, Request<R>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        within(self.deadline, self.attempt(self.deadline, request, &call)).await
    }

    async fn attempt<R, T, F>(
        &self,
        deadline: Duration,
        request: R,
        call: &impl Fn(Api, Request<R>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut request = Request::new(request);
        // The sidecar is to know when nobody waits any more.
        request.set_timeout(deadline);
        Ok(call(self.api(), request).await?.into_inner())
    }
}

/// What comes of it, or that it takes too long.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = |_| Error::Unavailable(format!("no answer within {deadline:?}"));
    timeout(deadline, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// [`Error::Invalid`] for 10,000 years and more.
pub(crate) fn proto_duration(
    field: &str,
    duration: Duration,
) -> Result<prost_types::Duration, Error> {
    let too_long = |_| Error::invalid(field, format!("want up to 24 h, got {duration:?}"));
    duration.try_into().map_err(too_long)
}
