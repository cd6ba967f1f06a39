//! What a listener asks of the clusters that its traffic goes to.

use std::sync::Arc;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::{Cluster, Listener, Traffic};

impl Judge {
    /// The client of a request cannot be told by a header at the start of a connection, which many
    /// share; and datagrams are passed on as they are.
    pub(super) fn addressees(
        &mut self,
        listeners: &[Listener],
        clusters: &[Arc<Cluster>],
        root: &KeyPath,
    ) {
        for listener in listeners {
            for name in listener.clusters() {
                let cluster = clusters.iter().find(|cluster| cluster.name == *name);
                let version = cluster.and_then(|cluster| cluster.proxy_protocol);
                let reason = match (&listener.traffic, version) {
                    (Traffic::Http(_), Some(_)) => {
                        "requests share connections; backends find the client in X-Forwarded-For"
                    }
                    (Traffic::Udp(_), Some(_)) => "datagrams are passed on as they are",
                    _ => continue,
                };
                let path = root.key("clusters").key(name).key("proxy_protocol");
                let message = format!("listener `{}` leads here: {reason}", listener.name);
                self.fault::<()>(path, message);
            }
        }
    }
}
