//! One connection of the app, from accept to close.

use super::connect::connect;
use super::hello::{self, NoHello};
use super::relay::Relay;
use super::route::Hello;
use super::site::{Record, Site};
use crate::net::dial::Stream;
use crate::net::listen::Accepted;
use crate::telemetry::metrics::End;

/// Carries the connection to its end. Nothing waits for the app, unless routes have to know what it
/// says: in many protocols it is the server that speaks first.
pub(in crate::proxy) async fn serve(accepted: Accepted, site: &Site) {
    let Accepted { stream: mut app, peer } = accepted;
    let mut record = Record::new(site);
    let (hello, first) = match greet(&mut app, site).await {
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
    let key = cluster.client_key(peer.map(|peer| peer.ip()));
    match connect(destination, key).await {
        Ok((mut work, mut connection)) => {
            let backend = &mut connection.wire.stream;
            let relay = Relay::new(app, backend, first, 0, cluster, site);
            let (end, _moved) = relay.run(&mut work).await;
            record.end = end;
        }
        Err(end) => {
            record.end = end;
            app.reset_on_close();
        }
    }
}

/// What routes have to know of a client, and what was read for that.
async fn greet(app: &mut Stream, site: &Site) -> Result<(Hello, Vec<u8>), End> {
    if !site.routes.ask() {
        return Ok(Default::default());
    }
    hello::read(app).await.map_err(|none| match none {
        NoHello::Silence => End::ByApp,
        NoHello::NotTls => End::BadRequest,
    })
}
