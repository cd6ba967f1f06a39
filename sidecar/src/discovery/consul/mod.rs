//! Consul: endpoints from its catalog, and orders for the fleet in its key-value store.
//!
//! Consul is asked over HTTP (`client.rs`) with blocking queries (`asking.rs`), at a pace that spares it
//! (`pace.rs`). There is one watch for each question (`watch.rs`), however many clusters ask it; what a cluster makes of
//! the instances of a service is its own affair (`instances.rs`). `orders.rs` watches and writes what is
//! ordered of the whole fleet.

mod asking;
mod client;
mod instances;
mod orders;
mod pace;
mod token;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Reporter;
use crate::cluster::{Cluster, Endpoint, FleetWrite};
use crate::config::{self, ConsulService};
use crate::net::tls::TlsError;
use client::{Client, Question};
use instances::{Instances, parse};
use token::Token;
use watch::{Asked, Watches};

/// A watch that ended without a reason is begun again after this.
const RESTART: Duration = Duration::from_secs(1);

/// Consul, as the configuration names it.
#[derive(Debug)]
pub(super) struct Consul {
    client: Client,
    token: Token,
    settings: config::Consul,
    watches: Watches,
}

impl Consul {
    pub(super) fn new(settings: &config::Consul) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            client: Client::new(settings)?,
            token: Token::new(settings.token_file.clone()),
            settings: settings.clone(),
            watches: Watches::default(),
        }))
    }

    /// Follows a service for as long as the sidecar runs.
    pub(super) async fn follow(self: &Arc<Self>, service: &ConsulService, reporter: &Reporter) {
        let asked = Asked::of(service);
        loop {
            let mut heard = self.watches.hear(self, &asked);
            while heard.changed().await.is_ok() {
                let said = heard.borrow_and_update().clone();
                match said {
                    Some(Ok(instances)) => {
                        reporter.found(endpoints(&instances, service), false).await;
                    }
                    Some(Err(error)) => reporter.failed(error).await,
                    None => {}
                }
            }
            tokio::time::sleep(RESTART).await;
        }
    }

    /// Obeys orders for the fleet that concern these clusters, for as long as the sidecar runs.
    pub(super) async fn follow_orders(&self, clusters: &[Arc<Cluster>]) {
        if let Some(prefix) = &self.settings.kv_prefix {
            orders::follow(self, prefix, clusters).await;
        }
    }

    pub(super) fn takes_orders(&self) -> bool {
        self.settings.kv_prefix.is_some()
    }

    /// Writes orders for the fleet.
    pub(super) async fn write_orders(&self, wishes: &mut mpsc::Receiver<FleetWrite>) {
        if let Some(prefix) = &self.settings.kv_prefix {
            orders::write(self, prefix, wishes).await;
        }
    }

    /// Asks once.
    pub(super) async fn ask(&self, service: &ConsulService) -> Result<Vec<Endpoint>, String> {
        let path = Asked::of(service).path(self, None);
        let question = Question::get(&path, self.token.read(), None);
        let reply = self.client.ask(&mut None, question).await.map_err(|e| e.to_string())?;
        let instances = parse(&service.name, &reply.body).map_err(|e| e.to_string())?;
        Ok(endpoints(&instances, service))
    }
}

fn endpoints(instances: &Instances, service: &ConsulService) -> Vec<Endpoint> {
    instances.list.iter().filter_map(|instance| instance.endpoint(service)).collect()
}
