//! Endpoints from Consul's catalog.

use super::Reporter;
use crate::cluster::Endpoint;
use crate::config::ConsulService;

/// Follows the service for as long as the sidecar runs.
pub(super) async fn follow(service: &ConsulService, reporter: &Reporter) {
    match ask(service).await {
        Ok(endpoints) => reporter.found(endpoints, false).await,
        Err(error) => reporter.failed(error).await,
    }
}

pub(super) async fn ask(service: &ConsulService) -> Result<Vec<Endpoint>, String> {
    Err(format!("{:?}: not asked yet", service.name))
}
