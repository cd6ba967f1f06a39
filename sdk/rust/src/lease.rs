//! Leases: orders that hold for as long as the app lives.

mod held;
mod line;

use std::sync::Arc;
use std::time::Duration;

use outrigger_proto::v1::{
    ClearWeightRequest, DrainRequest, ResumeRequest, SetAffinityRequest, SetWeightRequest,
    drain_request, set_affinity_request, set_weight_request,
};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::Client;
use crate::backend::Backend;
use crate::client::{proto_duration, within};
use crate::error::Error;
use crate::order::WeightChange;

use held::{Held, Kind, Order, Slot};
use line::{Ending, Line};

/// Orders that end when this is dropped, or the app dies, whichever way: the sidecar sees the lease's
/// stream end, and what they changed is as if it had never been.
///
/// When the sidecar restarts the lease is opened again, and what was ordered through it and not taken
/// back through it is ordered again. Until then orders fail with [`Error::Unavailable`]. What cannot be
/// ordered again, since its backend is not known yet, is tried for as long as the lease is there.
///
/// The methods are those of [`Client`] without a TTL, with the same errors.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    end: oneshot::Sender<()>,
    keeper: AbortOnDropHandle<()>,
}

impl Lease {
    pub(crate) async fn open(client: Client, owner: &str) -> Result<Self, Error> {
        let (end, ending) = Ending::new();
        let line = Line::open(&client, owner, ending.clone()).await?;
        let held = Arc::new(Held::new(client, owner, &line));
        let keeper = tokio::spawn(Arc::clone(&held).keep(line, ending));
        Ok(Self { held, end, keeper: AbortOnDropHandle::new(keeper) })
    }

    /// What names the lease in orders, for another process that is to give some under it. Another one
    /// after a restart of the sidecar.
    pub async fn id(&self) -> Result<String, Error> {
        Ok(self.held.id().await?.clone())
    }

    /// Ends the lease, and returns when the sidecar has taken its orders back: new picks no longer follow
    /// them.
    pub async fn end(self) -> Result<(), Error> {
        let Self { held, end, keeper } = self;
        // If nobody hears it, the keeper has ended.
        let _ = end.send(());
        within(held.client.deadline(), async {
            keeper.await.map_err(|e| Error::lost(&format!("the lease: {e}")))
        })
        .await
    }

    /// See [`Client::set_weight`].
    pub async fn set_weight(
        &self,
        cluster: &str,
        backend: &str,
        weight: u32,
    ) -> Result<Backend, Error> {
        let change = WeightChange::Weight(weight);
        self.change_weight(cluster, backend, change).await
    }

    /// See [`Client::scale_weight`].
    pub async fn scale_weight(
        &self,
        cluster: &str,
        backend: &str,
        factor: f64,
    ) -> Result<Backend, Error> {
        let change = WeightChange::Factor(factor);
        self.change_weight(cluster, backend, change).await
    }

    async fn change_weight(
        &self,
        cluster: &str,
        backend: &str,
        change: WeightChange,
    ) -> Result<Backend, Error> {
        let id = self.held.id().await?;
        let request = SetWeightRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            change: Some(change),
            lifetime: Some(set_weight_request::Lifetime::LeaseId(id.clone())),
            owner: String::new(),
        };
        let ordered = self.held.client.order_weight(request.clone()).await.map_err(held::lost)?;
        self.held.remember(Slot::new(Kind::Weight, cluster, &ordered.name), Order::Weight(request));
        Ok(ordered)
    }

    /// Takes back the order of weight that was given through this lease. It is not given again even if
    /// this is [`Error::Unavailable`].
    pub async fn clear_weight(&self, cluster: &str, backend: &str) -> Result<Backend, Error> {
        self.held.forget(&Slot::new(Kind::Weight, cluster, backend));
        let id = self.held.id().await?;
        let request = ClearWeightRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            lease_id: id.clone(),
            ..ClearWeightRequest::default()
        };
        let cleared = self.held.client.take_back_weight(request).await.map_err(held::lost)?;
        self.held.forget(&Slot::new(Kind::Weight, cluster, &cleared.name));
        Ok(cleared)
    }

    /// See [`Client::set_affinity`].
    pub async fn set_affinity(
        &self,
        cluster: &str,
        key: &str,
        backend: Option<&str>,
    ) -> Result<String, Error> {
        let id = self.held.id().await?;
        let mut request = SetAffinityRequest {
            cluster: cluster.into(),
            key: key.into(),
            backend: backend.unwrap_or_default().into(),
            lifetime: Some(set_affinity_request::Lifetime::LeaseId(id.clone())),
            owner: String::new(),
        };
        let home = self.held.client.order_pin(request.clone()).await.map_err(held::lost)?;
        // It is to be there again, wherever it would be sent by then.
        request.backend.clone_from(&home);
        self.held.remember(Slot::new(Kind::Pin, cluster, key), Order::Pin(request));
        Ok(home)
    }

    /// See [`Client::clear_affinity`]. The pin is not given again even if this is
    /// [`Error::Unavailable`].
    pub async fn clear_affinity(&self, cluster: &str, key: &str) -> Result<bool, Error> {
        self.held.forget(&Slot::new(Kind::Pin, cluster, key));
        let _id = self.held.id().await?;
        self.held.client.clear_affinity(cluster, key).await
    }

    /// See [`Client::drain`].
    pub async fn drain(
        &self,
        cluster: &str,
        backend: &str,
        timeout: Option<Duration>,
    ) -> Result<Backend, Error> {
        let id = self.held.id().await?;
        let request = DrainRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            timeout: timeout.map(|timeout| proto_duration("timeout", timeout)).transpose()?,
            lifetime: Some(drain_request::Lifetime::LeaseId(id.clone())),
            owner: String::new(),
        };
        let ordered = self.held.client.order_drain(request.clone()).await.map_err(held::lost)?;
        self.held.remember(Slot::new(Kind::Drain, cluster, &ordered.name), Order::Drain(request));
        Ok(ordered)
    }

    /// Takes back the order to drain that was given through this lease. It is not given again even if
    /// this is [`Error::Unavailable`].
    pub async fn resume(&self, cluster: &str, backend: &str) -> Result<Backend, Error> {
        self.held.forget(&Slot::new(Kind::Drain, cluster, backend));
        let id = self.held.id().await?;
        let request = ResumeRequest {
            cluster: cluster.into(),
            backend: backend.into(),
            lease_id: id.clone(),
            ..ResumeRequest::default()
        };
        let resumed = self.held.client.take_back_drain(request).await.map_err(held::lost)?;
        self.held.forget(&Slot::new(Kind::Drain, cluster, &resumed.name));
        Ok(resumed)
    }
}
