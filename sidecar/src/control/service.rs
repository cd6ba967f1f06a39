//! The calls: who may make each, and whose affair it is.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use outrigger_proto::v1;
use outrigger_proto::v1::control_service_server::ControlService;
use tonic::{Request, Response, Status, Streaming};

use super::caller::{Caller, Role};
use super::{Control, clusters, drained, events, leases, orders, outcomes, pins, watch};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Debug, Clone)]
pub(super) struct Service(pub(super) Arc<Control>);

impl Service {
    /// A question, of whoever may ask.
    fn asked<T>(&self, request: Request<T>) -> Result<(&Control, T), Status> {
        let caller = Caller::of(&request)?;
        caller.needs(Role::Read)?;
        Ok((&self.0, request.into_inner()))
    }

    /// A change, of whoever may make one, and not faster than it may.
    fn ordered<T>(&self, request: Request<T>) -> Result<(&Arc<Control>, Caller, T), Status> {
        let caller = Caller::of(&request)?;
        caller.needs(Role::Steer)?;
        self.0.limits.take(&caller)?;
        Ok((&self.0, caller, request.into_inner()))
    }
}

#[tonic::async_trait]
impl ControlService for Service {
    async fn list_clusters(
        &self,
        request: Request<v1::ListClustersRequest>,
    ) -> Answer<v1::ListClustersResponse> {
        let (control, request) = self.asked(request)?;
        clusters::list(control, &request).map(Response::new)
    }

    type WatchClusterStream = BoxStream<'static, Result<v1::WatchClusterResponse, Status>>;

    async fn watch_cluster(
        &self,
        request: Request<v1::WatchClusterRequest>,
    ) -> Answer<Self::WatchClusterStream> {
        let (control, request) = self.asked(request)?;
        let told = watch::watch(control, request).await?;
        Ok(Response::new(control.until_stopped(told)))
    }

    type OpenLeaseStream = BoxStream<'static, Result<v1::OpenLeaseResponse, Status>>;

    async fn open_lease(
        &self,
        request: Request<Streaming<v1::OpenLeaseRequest>>,
    ) -> Answer<Self::OpenLeaseStream> {
        let (control, caller, requests) = self.ordered(request)?;
        let told = leases::open(control, &caller, requests).await?;
        Ok(Response::new(control.until_stopped(told)))
    }

    async fn set_weight(
        &self,
        request: Request<v1::SetWeightRequest>,
    ) -> Answer<v1::SetWeightResponse> {
        let (control, caller, request) = self.ordered(request)?;
        orders::set_weight(control, &caller, request).await.map(Response::new)
    }

    async fn clear_weight(
        &self,
        request: Request<v1::ClearWeightRequest>,
    ) -> Answer<v1::ClearWeightResponse> {
        let (control, caller, request) = self.ordered(request)?;
        orders::clear_weight(control, &caller, request).await.map(Response::new)
    }

    async fn set_affinity(
        &self,
        request: Request<v1::SetAffinityRequest>,
    ) -> Answer<v1::SetAffinityResponse> {
        let (control, caller, request) = self.ordered(request)?;
        pins::set(control, &caller, request).await.map(Response::new)
    }

    async fn get_affinity(
        &self,
        request: Request<v1::GetAffinityRequest>,
    ) -> Answer<v1::GetAffinityResponse> {
        let (control, request) = self.asked(request)?;
        pins::get(control, &request).map(Response::new)
    }

    async fn clear_affinity(
        &self,
        request: Request<v1::ClearAffinityRequest>,
    ) -> Answer<v1::ClearAffinityResponse> {
        let (control, caller, request) = self.ordered(request)?;
        pins::clear(control, &caller, request).await.map(Response::new)
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::DrainResponse> {
        let (control, caller, request) = self.ordered(request)?;
        orders::drain(control, &caller, request).await.map(Response::new)
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::ResumeResponse> {
        let (control, caller, request) = self.ordered(request)?;
        orders::resume(control, &caller, request).await.map(Response::new)
    }

    async fn wait_drained(
        &self,
        request: Request<v1::WaitDrainedRequest>,
    ) -> Answer<v1::WaitDrainedResponse> {
        let (control, request) = self.asked(request)?;
        control.unless_stopped(drained::wait(control, &request)).await.map(Response::new)
    }

    async fn report_outcome(
        &self,
        request: Request<v1::ReportOutcomeRequest>,
    ) -> Answer<v1::ReportOutcomeResponse> {
        let (control, _, request) = self.ordered(request)?;
        outcomes::report(control, &request).map(Response::new)
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Answer<v1::ListEventsResponse> {
        let (control, request) = self.asked(request)?;
        control.unless_stopped(events::list(control, request)).await.map(Response::new)
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::ExplainResponse> {
        let (control, request) = self.asked(request)?;
        pins::explain(control, &request).map(Response::new)
    }
}
