//! One connection of the app, from accept to close.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connect::connect;
use super::relay::Relay;
use super::site::{Record, Site};
use crate::config::ProxyProtocol;
use crate::net::dial::Stream;
use crate::net::proxy_protocol::Addresses;
use crate::net::tls::hello::{self, Hello, NoHello};
use crate::proxy::door::Arrival;
use crate::telemetry::metrics::End;

/// Carries the connection to its end. Nothing waits for the app, unless routes have to know what it
/// says: in many protocols it is the server that speaks first.
pub(in crate::proxy) async fn serve(arrival: Arrival, site: &Site) {
    let Arrival { stream: mut app, client, destination: asked, key: said, hello } = arrival;
    let mut record = Record::new(site, client);
    let (hello, first) = match greet(&mut app, hello, site).await {
        Ok(said) => said,
        Err(end) => {
            record.end = end;
            return app.reset_on_close();
        }
    };
    let Some(destination) = site.routes.find(&hello) else {
        record.end = End::NoRoute;
        return app.reset_on_close();
    };
    record.routed(destination);
    let cluster = &*destination.cluster;
    let said = said.as_deref();
    let key = cluster
        .pinned(|| said)
        .unwrap_or_else(|| cluster.client_key(said, client.map(|client| client.ip())));
    let asked = || asked.or_else(|| app.local_addr());
    let header = header(cluster.settings().proxy_protocol, client, asked);
    match connect(destination, &app, key, &header).await {
        Ok((mut work, mut connection)) => {
            let relay = Relay::new(app, &mut connection, first, cluster, site);
            record.backend = Some(Arc::clone(&work.pick.backend.name));
            (record.end, record.moved) = relay.run(&mut work).await;
        }
        Err(end) => {
            record.end = end;
            app.reset_on_close();
        }
    }
}

/// What routes have to know of a client, and what was read for that.
async fn greet(
    app: &mut Stream,
    hello: Option<Hello>,
    site: &Site,
) -> Result<(Hello, Vec<u8>), End> {
    match hello {
        Some(hello) => Ok((hello, Vec::new())),
        None if !site.routes.ask() => Ok(Default::default()),
        None => hello::read(app).await.map_err(|none| match none {
            NoHello::Silence => End::ByApp,
            NoHello::NotTls => End::BadRequest,
        }),
    }
}

/// What tells a backend who the client is, where it is to be told.
fn header(
    version: Option<ProxyProtocol>,
    client: Option<SocketAddr>,
    destination: impl FnOnce() -> Option<SocketAddr>,
) -> Vec<u8> {
    let Some(version) = version else { return Vec::new() };
    let addresses = client.zip(destination());
    let addresses = addresses.map(|(source, destination)| Addresses { source, destination });
    version.header(addresses.as_ref())
}
