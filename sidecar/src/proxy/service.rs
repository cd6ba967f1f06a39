//! What is spoken on each listener, as one worker speaks it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_local;

use super::cluster::LocalCluster;
use super::door::{Arrival, Refusal};
use super::http::{self, Date, Routes};
use super::listener::{Leads, Listener, Role};
use super::tcp;
use super::timer::Timers;
use super::udp;
use crate::cluster::Cluster;
use crate::config::{HttpTraffic, TcpTraffic, UdpTraffic};
use crate::net::Address;
use crate::telemetry::metrics::{End, RouteMetrics, TransportMetrics, UdpMetrics};

/// One listener's.
#[derive(Debug)]
pub(super) enum Service {
    Http(Rc<http::Site>),
    Tcp(Rc<tcp::Site>),
    /// Nothing connects: its one worker reads all that comes. `None`: it leads nowhere.
    Udp(Option<Rc<udp::Site>>),
}

impl Service {
    /// Carries a connection to its end, and keeps what counts it until then.
    pub(super) async fn serve(&self, arrival: Arrival, guards: impl Sized + 'static) {
        match self {
            // In a task of its own: what tasks are made of is copied several times, and kept as long as
            // the connection, so none has room for what it does not serve.
            Self::Http(site) => {
                let site = Rc::clone(site);
                spawn_local(async move {
                    http::serve(arrival, site).await;
                    drop(guards);
                });
            }
            Self::Tcp(site) => {
                tcp::serve(arrival, site).await;
                drop(guards);
            }
            Self::Udp(_) => {}
        }
    }

    /// Counts a connection that is not served.
    pub(super) fn refused(&self, refusal: &Refusal) {
        tracing::debug!(%refusal, "a connection is turned away");
        match self {
            Self::Http(site) => drop(site.unrouted.errors("bad_request").map(|c| c.increment(1))),
            Self::Tcp(site) => site.nowhere.ended(End::BadRequest, Duration::ZERO),
            Self::Udp(_) => {}
        }
    }
}

/// Makes the services of one worker, which share its clusters.
pub(super) struct Services<'w> {
    timers: &'w Rc<Timers>,
    draining: &'w Rc<Cell<bool>>,
    closing: &'w Rc<Cell<bool>>,
    date: Rc<Date>,
    tools: Rc<tcp::Tools>,
    clusters: Vec<Rc<LocalCluster>>,
}

impl<'w> Services<'w> {
    pub(super) fn new(
        timers: &'w Rc<Timers>,
        draining: &'w Rc<Cell<bool>>,
        closing: &'w Rc<Cell<bool>>,
    ) -> Self {
        let (date, tools) = (Rc::default(), Rc::default());
        Self { timers, draining, closing, date, tools, clusters: Vec::new() }
    }

    pub(super) fn of(&mut self, listener: &Listener) -> Service {
        match &listener.role {
            Role::Http(settings, leads) => {
                Service::Http(Rc::new(self.http(listener, settings, leads)))
            }
            Role::Tcp(settings, leads) => {
                Service::Tcp(Rc::new(self.tcp(listener, settings, leads)))
            }
            Role::Udp(settings, leads, metrics) => {
                Service::Udp(self.udp(listener, settings, leads, metrics).map(Rc::new))
            }
        }
    }

    fn http(
        &mut self,
        listener: &Listener,
        settings: &HttpTraffic,
        leads: &Leads<RouteMetrics>,
    ) -> http::Site {
        let destinations = leads.routes.iter().map(|(cluster, metrics)| http::Destination {
            cluster: self.local(cluster),
            metrics: Arc::clone(metrics),
        });
        http::Site {
            routes: Routes::new(&settings.routes, destinations.collect()),
            unrouted: Arc::clone(&leads.nowhere),
            own_names: own_names(&listener.address),
            timeouts: settings.timeouts,
            timers: Rc::clone(self.timers),
            draining: Rc::clone(self.draining),
            closing: Rc::clone(self.closing),
            date: Rc::clone(&self.date),
            access: listener.access.clone(),
        }
    }

    fn tcp(
        &mut self,
        listener: &Listener,
        settings: &TcpTraffic,
        leads: &Leads<TransportMetrics>,
    ) -> tcp::Site {
        let destinations = leads.routes.iter().map(|(cluster, metrics)| tcp::Destination {
            cluster: self.local(cluster),
            metrics: Arc::clone(metrics),
        });
        tcp::Site {
            routes: tcp::Routes::new(&settings.routes, destinations.collect()),
            nowhere: Arc::clone(&leads.nowhere),
            timers: Rc::clone(self.timers),
            tools: Rc::clone(&self.tools),
            access: listener.access.clone(),
        }
    }

    fn udp(
        &mut self,
        listener: &Listener,
        settings: &UdpTraffic,
        leads: &Leads<TransportMetrics>,
        udp: &Arc<UdpMetrics>,
    ) -> Option<udp::Site> {
        let (cluster, metrics) = leads.routes.first()?;
        Some(udp::Site {
            settings: settings.clone(),
            cluster: self.local(cluster),
            metrics: Arc::clone(metrics),
            listener: Arc::clone(&listener.metrics),
            udp: Arc::clone(udp),
            access: listener.access.clone(),
        })
    }

    /// The cluster as this worker uses it, on however many listeners.
    fn local(&mut self, cluster: &Arc<Cluster>) -> Rc<LocalCluster> {
        let known = self.clusters.iter().find(|known| Arc::ptr_eq(&known.cluster, cluster));
        known.map(Rc::clone).unwrap_or_else(|| {
            let new = Rc::new(LocalCluster::new(Arc::clone(cluster), fastrand::Rng::new()));
            self.clusters.push(Rc::clone(&new));
            new
        })
    }

    /// All clusters that the services use.
    pub(super) fn clusters(self) -> Vec<Rc<LocalCluster>> {
        self.clusters
    }
}

/// Hosts without port by which an app on this machine names a listener.
fn own_names(address: &Address) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
    match address {
        Address::Tcp(address) if address.is_ipv6() => names.push(format!("[{}]", address.ip())),
        Address::Tcp(address) => names.push(address.ip().to_string()),
        Address::Unix(_) => {}
    }
    names
}
