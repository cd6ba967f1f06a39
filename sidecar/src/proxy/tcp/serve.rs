//! One connection of the app, from accept to close.

use super::connect::connect;
use super::relay::Relay;
use super::route::Hello;
use super::site::{Record, Site};
use crate::net::listen::Accepted;
use crate::telemetry::metrics::End;

/// Carries the connection to its end. Nothing waits for the app: in many protocols it is the server
/// that speaks first.
pub(in crate::proxy) async fn serve(accepted: Accepted, site: &Site) {
    let Accepted { stream: app, peer } = accepted;
    let mut record = Record::new(site);
    let Some(destination) = site.routes.find(&Hello::default()) else {
        record.end = End::NoRoute;
        return app.reset_on_close();
    };
    record.routed(destination);
    let cluster = &*destination.cluster;
    let key = cluster.client_key(peer.map(|peer| peer.ip()));
    match connect(destination, key).await {
        Ok((mut work, mut connection)) => {
            let backend = &mut connection.wire.stream;
            let relay = Relay::new(app, backend, Vec::new(), 0, cluster, site);
            let (end, _moved) = relay.run(&mut work).await;
            record.end = end;
        }
        Err(end) => {
            record.end = end;
            app.reset_on_close();
        }
    }
}
