//! Cookies of clusters that are reached at one place: a client has one of each name there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::{AffinityKey, Cluster, Listener, Traffic};

impl Judge {
    /// A cookie that two clusters take for theirs is forged to each where the other has set it: a
    /// client that speaks to both would be moved by every request.
    pub(super) fn shared_cookies(
        &mut self,
        listeners: &[Listener],
        clusters: &[Arc<Cluster>],
        path: &KeyPath,
    ) {
        for listener in listeners {
            // Only requests have cookies.
            let Traffic::Http(http) = &listener.traffic else { continue };
            let reached: BTreeSet<&str> = http.routes.iter().map(|route| &*route.cluster).collect();
            let named = |cluster: &&Arc<Cluster>| reached.contains(&*cluster.name);
            let cookies: Vec<_> = clusters.iter().filter(named).filter_map(cookie).collect();
            for (i, (cluster, cookie)) in cookies.iter().enumerate() {
                let Some((first, _)) = cookies[..i].iter().find(|(_, other)| other == cookie)
                else {
                    continue;
                };
                let message = format!(
                    "lead to the clusters `{first}` and `{cluster}`, which both use the cookie \
                     {cookie:?}; accepted: a cookie of its own for each"
                );
                self.fault::<()>(path.key(&listener.name).key("routes"), message);
            }
        }
    }
}

/// The names of a cluster and of its cookie, if it has one.
fn cookie(cluster: &Arc<Cluster>) -> Option<(&str, &str)> {
    match &cluster.affinity.key {
        AffinityKey::Cookie(cookie) => Some((&cluster.name, cookie)),
        _ => None,
    }
}
