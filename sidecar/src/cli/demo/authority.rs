//! A DNS server for one zone, whose records the demo changes as it goes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::proto::rr::rdata::{A, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

use super::{DOMAIN, SERVICE};
use crate::cli::Failure;

/// Short, so that a change is seen soon.
const TTL: u32 = 1;

/// The server; it stops when this is dropped.
pub(super) struct Authority {
    pub(super) address: SocketAddr,
    zone: Arc<InMemoryZoneHandler>,
    _server: Server<Catalog>,
}

impl Authority {
    pub(super) async fn start() -> Result<Self, Failure> {
        let origin = name(DOMAIN)?;
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let zone = Arc::new(zone);
        let soa = SOA::new(origin.clone(), origin.clone(), 1, 60, 60, 60, TTL);
        zone.upsert(Record::from_rdata(origin.clone(), TTL, RData::SOA(soa)), 0).await;

        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![Arc::clone(&zone) as Arc<dyn ZoneHandler>]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = bind().await?;
        let address = udp.local_addr()?;
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(10), 64 << 10);
        Ok(Self { address, zone, _server: server })
    }

    /// Adds a backend: its address under its own name, and an SRV record that names it.
    pub(super) async fn add(
        &self,
        host: &str,
        address: SocketAddr,
        weight: u16,
    ) -> Result<(), Failure> {
        let target = name(&format!("{host}.{DOMAIN}"))?;
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::LOCALHOST,
        };
        let serial = self.zone.serial().await;
        let a = Record::from_rdata(target.clone(), TTL, RData::A(A(ip)));
        let srv = RData::SRV(SRV::new(10, weight, address.port(), target));
        let srv = Record::from_rdata(name(SERVICE)?, TTL, srv);
        self.zone.upsert(a, serial).await;
        self.zone.upsert(srv, serial).await;
        Ok(())
    }
}

/// The same port for UDP and TCP. One that is free for the first may be taken for the second.
async fn bind() -> Result<(UdpSocket, TcpListener), Failure> {
    let mut last = None;
    for _ in 0..20 {
        let udp = UdpSocket::bind("127.0.0.1:0").await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(Failure::Failed(format!("no port for the DNS server: {last:?}")))
}

fn name(text: &str) -> Result<Name, Failure> {
    let mut name = Name::from_str(text).map_err(|e| Failure::Failed(e.to_string()))?;
    name.set_fqdn(true);
    Ok(name)
}
