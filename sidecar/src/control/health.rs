//! `grpc.health.v1.Health`, of the sidecar (the service with no name) and of each cluster by its name.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::caller::{Caller, Role};
use super::{Control, error};

/// How often it is looked whether something has changed, for whoever watches.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Clone)]
pub(super) struct Judge(pub(super) Arc<Control>);

impl Judge {
    /// `None`: there is no such service.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let serves = match service {
            "" => self.0.readiness.reasons().is_empty(),
            name => {
                let mut clusters = self.0.clusters.iter();
                let cluster = clusters.find(|cluster| cluster.name() == name)?;
                !cluster.snapshot().candidates.indices.is_empty()
            }
        };
        Some(if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

#[tonic::async_trait]
impl Health for Judge {
    /// Everybody may ask: orchestrators have no token.
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        let status = self.status(&service).ok_or_else(|| error::not_found("cluster", &service))?;
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Caller::of(&request)?.needs(Role::Read)?;
        let (judge, service) = (self.clone(), request.into_inner().service);
        let looks = tokio::time::interval(LOOK);
        let told = stream::unfold((looks, None), move |(mut looks, mut last)| {
            let (judge, service) = (judge.clone(), service.clone());
            async move {
                loop {
                    looks.tick().await;
                    let status = judge.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
                    if last.replace(status) != Some(status) {
                        let answer = HealthCheckResponse { status: status.into() };
                        return Some((Ok(answer), (looks, last)));
                    }
                }
            }
        });
        Ok(Response::new(self.0.until_stopped(told)))
    }
}
