//! Listeners, from the configuration to what workers serve.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{StartError, bind};
use crate::cluster::Cluster;
use crate::config::{self, Traffic};
use crate::net::{Address, udp};
use crate::proxy::door::{Door, PerSource};
use crate::proxy::listener::{Leads, Listener, Role, Socket};
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::tls::Tls;

/// What listeners are made of.
pub(super) struct Made<'a> {
    pub(super) clusters: &'a [Arc<Cluster>],
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) tls: &'a Tls,
    /// `None`: nothing is written down.
    pub(super) access: Option<AccessLog>,
}

impl Made<'_> {
    pub(super) fn bind(
        &self,
        settings: &config::Listener,
    ) -> Result<(Socket, Listener), StartError> {
        let who = format!("listener `{}`", settings.name);
        let failed =
            |error| StartError::Bind { who: who.clone(), address: settings.listen.clone(), error };
        let socket = match (&settings.traffic, &settings.listen) {
            (Traffic::Udp(udp), Address::Tcp(address)) => {
                let socket = udp::Socket::bind(*address, udp.max_sessions).map_err(failed)?;
                Socket::Datagrams(socket)
            }
            _ => Socket::Connections(bind(&who, &settings.listen)?),
        };
        let address = socket.address().map_err(failed)?;
        let permits = settings.max_connections.unwrap_or_else(default_max_connections);
        let listener = Listener {
            role: self.role(settings),
            metrics: self.metrics.listener(&settings.name),
            permits: Arc::new(Semaphore::new(permits)),
            door: Door {
                announced: settings.proxy_protocol.clone(),
                tls: self.tls.listeners.get(&settings.name).cloned(),
                sources: settings.max_per_source.map(PerSource::new),
            },
            access: self.access.as_ref().map(|log| Arc::new(log.of(settings))),
            settings: settings.clone(),
            address,
        };
        Ok((socket, listener))
    }

    /// What is spoken on a listener, where it goes, and what counts it there.
    fn role(&self, settings: &config::Listener) -> Role {
        let (metrics, clusters) = (self.metrics, self.clusters);
        let name = &settings.name;
        let transport = || Leads {
            nowhere: metrics.transport(name, ""),
            routes: routes(settings, clusters, |cluster| metrics.transport(name, cluster)),
        };
        match &settings.traffic {
            Traffic::Http(http) => {
                let leads = Leads {
                    nowhere: metrics.route(name, ""),
                    routes: routes(settings, clusters, |cluster| metrics.route(name, cluster)),
                };
                Role::Http(http.clone(), leads)
            }
            Traffic::Tcp(tcp) => Role::Tcp(tcp.clone(), transport()),
            Traffic::Udp(udp) => Role::Udp(udp.clone(), transport(), metrics.udp(name)),
        }
    }
}

fn routes<M>(
    settings: &config::Listener,
    clusters: &[Arc<Cluster>],
    metrics: impl Fn(&str) -> Arc<M>,
) -> Vec<(Arc<Cluster>, Arc<M>)> {
    let route = |name: &Arc<str>| {
        let cluster = clusters.iter().find(|cluster| cluster.name() == &**name)?;
        Some((Arc::clone(cluster), metrics(name)))
    };
    // Validation has seen to it that every cluster is there.
    settings.clusters().filter_map(route).collect()
}

/// Four tenths of the limit on open files: as many for the connections to backends, and the
/// rest for everything else, so that the limit itself is not met.
fn default_max_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    (limit / 10).saturating_mul(4).clamp(1, Semaphore::MAX_PERMITS)
}
