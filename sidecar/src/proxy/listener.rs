//! A listener, as all workers see it.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::door::Door;
use crate::cluster::Cluster;
use crate::config::{self, HttpTraffic, TcpTraffic, UdpTraffic};
use crate::net::{Address, listen, udp};
use crate::telemetry::access::ListenerLog;
use crate::telemetry::metrics::{ListenerMetrics, RouteMetrics, TransportMetrics, UdpMetrics};

#[derive(Debug)]
pub struct Listener {
    pub settings: config::Listener,
    /// What its socket is bound to.
    pub address: Address,
    pub metrics: Arc<ListenerMetrics>,
    pub role: Role,
    pub door: Door,
    /// `None`: nothing is written down.
    pub access: Option<Arc<ListenerLog>>,
    /// Bounds the connections that are open.
    pub permits: Arc<Semaphore>,
}

/// What is spoken on a listener, and where it goes.
#[derive(Debug)]
pub enum Role {
    Http(HttpTraffic, Leads<RouteMetrics>),
    Tcp(TcpTraffic, Leads<TransportMetrics>),
    Udp(UdpTraffic, Leads<TransportMetrics>, Arc<UdpMetrics>),
}

#[derive(Debug)]
pub struct Leads<M> {
    /// For what no route takes.
    pub nowhere: Arc<M>,
    /// One for each route of the settings.
    pub routes: Vec<(Arc<Cluster>, Arc<M>)>,
}

/// What a listener is bound to.
#[derive(Debug)]
pub enum Socket {
    Connections(listen::Socket),
    Datagrams(udp::Socket),
}

impl Socket {
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Connections(socket) => socket.address(),
            Self::Datagrams(socket) => socket.address().map(Address::Tcp),
        }
    }

    /// The same socket once more, for another worker.
    pub(super) fn share(&self) -> io::Result<Self> {
        match self {
            Self::Connections(socket) => socket.share().map(Self::Connections),
            Self::Datagrams(socket) => socket.share().map(Self::Datagrams),
        }
    }
}
