//! Orders: what an app may change, for a time or under a lease.

use std::time::Duration;

use outrigger_proto::v1::{
    ClearAffinityRequest, ClearWeightRequest, DrainRequest, ResumeRequest, SetAffinityRequest,
    SetWeightRequest, drain_request, set_affinity_request, set_weight_request,
};

use crate::Client;
use crate::backend::Backend;
use crate::client::proto_duration;
use crate::error::Error;

pub(crate) use outrigger_proto::v1::set_weight_request::Change as WeightChange;

/// Orders that end after a `ttl` of 1 ms ..= 24 h. They hold on this sidecar alone, and end with its
/// process; what should be there again afterwards is ordered under a [`Lease`](crate::Lease).
///
/// All of them name a cluster and a backend: its address, or the name of a target or a node that
/// exactly one backend has. [`Error::NotFound`] if there is none, [`Error::Invalid`] for values that are
/// not accepted, [`Error::Exhausted`] if there are too many orders. They take effect before they return.
impl Client {
    /// Gives a backend another weight than discovery does: 0..=65535. It takes the place of a factor that
    /// this owner has ordered. The backend as it is then.
    pub async fn set_weight(
        &self,
        cluster: &str,
        backend: &str,
        weight: u32,
        ttl: Duration,
    ) -> Result<Backend, Error> {
        let change = WeightChange::Weight(weight);
        self.change_weight(cluster, backend, change, ttl).await
    }

    /// Multiplies the weight that a backend would have: 0..=1000, in steps of 1/256. It takes the place of
    /// a weight that this owner has ordered; the factors of several owners multiply.
    pub async fn scale_weight(
        &self,
        cluster: &str,
        backend: &str,
        factor: f64,
        ttl: Duration,
    ) -> Result<Backend, Error> {
        let change = WeightChange::Factor(factor);
        self.change_weight(cluster, backend, change, ttl).await
    }

    async fn change_weight(
        &self,
        cluster: &str,
        backend: &str,
        change: WeightChange,
        ttl: Duration,
    ) -> Result<Backend, Error> {
        let request = SetWeightRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            change: Some(change),
            lifetime: Some(set_weight_request::Lifetime::Ttl(proto_duration("ttl", ttl)?)),
            owner: self.owner().into(),
        };
        self.order_weight(request).await
    }

    /// Takes back the order of weight that this owner has given with a TTL: a weight, or a factor.
    pub async fn clear_weight(&self, cluster: &str, backend: &str) -> Result<Backend, Error> {
        self.take_back_weight(ClearWeightRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            owner: self.owner().into(),
            ..ClearWeightRequest::default()
        })
        .await
    }

    /// Pins a key to a backend, or without one to where it is now or would be sent to now: what carries
    /// the key goes there for as long as the backend may be used. The name of the backend.
    ///
    /// A key has 1..=256 bytes, and one pin: the last one counts.
    pub async fn set_affinity(
        &self,
        cluster: &str,
        key: &str,
        backend: Option<&str>,
        ttl: Duration,
    ) -> Result<String, Error> {
        self.order_pin(SetAffinityRequest {
            cluster: cluster.into(),
            key: key.into(),
            backend: backend.unwrap_or_default().into(),
            lifetime: Some(set_affinity_request::Lifetime::Ttl(proto_duration("ttl", ttl)?)),
            owner: self.owner().into(),
        })
        .await
    }

    /// Takes the pin of a key back, whoever's it is. Whether there was one.
    pub async fn clear_affinity(&self, cluster: &str, key: &str) -> Result<bool, Error> {
        let request = ClearAffinityRequest { cluster: cluster.into(), key: key.into() };
        let answer =
            self.ask(request, |mut api, request| async move { api.clear_affinity(request).await });
        Ok(answer.await?.cleared)
    }

    /// Lets a backend finish what it has and gives it nothing new. What is left after `timeout` (up to
    /// 24 h; `None`: as the cluster's configuration says) is ended by force; after `ttl` it resumes.
    pub async fn drain(
        &self,
        cluster: &str,
        backend: &str,
        timeout: Option<Duration>,
        ttl: Duration,
    ) -> Result<Backend, Error> {
        self.order_drain(DrainRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            timeout: timeout.map(|timeout| proto_duration("timeout", timeout)).transpose()?,
            lifetime: Some(drain_request::Lifetime::Ttl(proto_duration("ttl", ttl)?)),
            owner: self.owner().into(),
        })
        .await
    }

    /// Takes back the order to drain that this owner has given with a TTL.
    pub async fn resume(&self, cluster: &str, backend: &str) -> Result<Backend, Error> {
        self.take_back_drain(ResumeRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            owner: self.owner().into(),
            ..ResumeRequest::default()
        })
        .await
    }

    pub(crate) async fn order_weight(&self, request: SetWeightRequest) -> Result<Backend, Error> {
        let answer =
            self.ask(request, |mut api, request| async move { api.set_weight(request).await });
        backend(answer.await?.backend)
    }

    pub(crate) async fn take_back_weight(
        &self,
        request: ClearWeightRequest,
    ) -> Result<Backend, Error> {
        let answer =
            self.ask(request, |mut api, request| async move { api.clear_weight(request).await });
        backend(answer.await?.backend)
    }

    pub(crate) async fn order_pin(&self, request: SetAffinityRequest) -> Result<String, Error> {
        let answer =
            self.ask(request, |mut api, request| async move { api.set_affinity(request).await });
        Ok(answer.await?.backend)
    }

    pub(crate) async fn order_drain(&self, request: DrainRequest) -> Result<Backend, Error> {
        let answer = self.ask(request, |mut api, request| async move { api.drain(request).await });
        backend(answer.await?.backend)
    }

    pub(crate) async fn take_back_drain(&self, request: ResumeRequest) -> Result<Backend, Error> {
        let answer = self.ask(request, |mut api, request| async move { api.resume(request).await });
        backend(answer.await?.backend)
    }
}

/// Every answer to an order has its backend.
fn backend(answered: Option<outrigger_proto::v1::Backend>) -> Result<Backend, Error> {
    let missing = || Error::lost("the answer has no backend");
    Ok(answered.ok_or_else(missing)?.into())
}
