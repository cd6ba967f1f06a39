//! Listeners and their routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::uri::PathAndQuery;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, Raw};
use crate::config::schema::nearest;
use crate::config::{HostMatch, Listener, ListenerTimeouts, Route};
use crate::net::Address;

impl Judge {
    pub(super) fn listeners(&mut self, raw: &Raw, path: &KeyPath) -> Vec<Listener> {
        let mut taken = BTreeMap::new();
        if let Some(admin) = raw.admin.listen.parse() {
            taken.insert(admin, "admin".to_owned());
        }
        let mut listeners = Vec::new();
        for (name, listener) in &raw.listeners {
            let path = path.key(name);
            self.name(name, path.clone());
            let Some(judged) = self.listener(name, listener, raw, &path) else { continue };
            match taken.get(&judged.listen) {
                // Port 0 is a free port, a different one each time.
                Some(_) if matches!(judged.listen, Address::Tcp(address) if address.port() == 0) => {
                }
                Some(owner) => {
                    let message = format!("{} is taken by {owner}", judged.listen);
                    self.fault::<()>(path.key("listen"), message);
                }
                None => drop(taken.insert(judged.listen.clone(), path.to_string())),
            }
            listeners.push(judged);
        }
        listeners
    }

    fn listener(
        &mut self,
        name: &str,
        raw: &raw::Listener,
        all: &Raw,
        path: &KeyPath,
    ) -> Option<Listener> {
        let listen = match &raw.listen {
            Some(text) => self.address(text, path.key("listen")),
            None => self.missing(path.key("listen")),
        };
        let routes = match (&raw.cluster, raw.routes.as_slice()) {
            (Some(cluster), []) => {
                let everything =
                    raw::Route { cluster: Some(cluster.clone()), ..Default::default() };
                self.route(&everything, all, path).map(|route| vec![route])
            }
            (None, []) => self.fault(path.clone(), "needs `cluster` or `routes`"),
            (None, routes) => {
                let judged: Vec<_> = routes
                    .iter()
                    .enumerate()
                    .map(|(i, route)| self.route(route, all, &path.key("routes").index(i)))
                    .collect();
                judged.into_iter().collect()
            }
            (Some(_), _) => self.fault(path.key("cluster"), "give either `cluster` or `routes`"),
        };
        let timeouts = path.key("timeouts");
        let head = self.timeout(&raw.timeouts.head, timeouts.key("head"));
        let idle = self.timeout(&raw.timeouts.idle, timeouts.key("idle"));
        let body_idle = self.timeout(&raw.timeouts.body_idle, timeouts.key("body_idle"));
        let write_stall = self.timeout(&raw.timeouts.write_stall, timeouts.key("write_stall"));
        Some(Listener {
            name: name.into(),
            listen: listen?,
            routes: routes?,
            max_connections: raw.max_connections.map(|max| max as usize),
            timeouts: ListenerTimeouts {
                head: head?,
                idle: idle?,
                body_idle: body_idle?,
                write_stall: write_stall?,
            },
        })
    }

    fn route(&mut self, raw: &raw::Route, all: &Raw, path: &KeyPath) -> Option<Route> {
        let cluster = match &raw.cluster {
            Some(cluster) => self.known_cluster(cluster, all, path.key("cluster")),
            None => self.missing(path.key("cluster")),
        };
        let host = match &raw.host {
            Some(host) => self.host_match(host, path.key("host")).map(Some),
            None => Some(None),
        };
        let path_prefix = match &raw.path_prefix {
            Some(prefix) => self.prefix(prefix, path.key("path_prefix")).map(Some),
            None => Some(None),
        };
        let rewrite_prefix = match &raw.rewrite_prefix {
            Some(_) if raw.path_prefix.is_none() => {
                self.fault(path.key("rewrite_prefix"), "needs `path_prefix` in the same route")
            }
            Some(prefix) => self.prefix(prefix, path.key("rewrite_prefix")).map(Some),
            None => Some(None),
        };
        Some(Route {
            host: host?,
            path_prefix: path_prefix?,
            rewrite_prefix: rewrite_prefix?,
            cluster: cluster?,
        })
    }

    fn known_cluster(&mut self, name: &str, all: &Raw, path: KeyPath) -> Option<Arc<str>> {
        if all.clusters.contains_key(name) {
            return Some(name.into());
        }
        let known: Vec<_> = all.clusters.keys().map(String::as_str).collect();
        let hint = nearest(name, &known).map(|near| format!(", did you mean `{near}`?"));
        let message = format!(
            "no cluster is called {name:?}{}; accepted: {}",
            hint.unwrap_or_default(),
            if known.is_empty() {
                "none yet, [clusters] is empty".into()
            } else {
                known.join(", ")
            }
        );
        self.fault(path, message)
    }

    fn host_match(&mut self, text: &str, path: KeyPath) -> Option<HostMatch> {
        let (suffix, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if name.is_empty() || !name.chars().all(letters) || has_port(name) {
            return self.refuse(path, text, "a host without port, or \"*.\" and a suffix");
        }
        let name = name.to_ascii_lowercase();
        Some(if suffix { HostMatch::Suffix(format!(".{name}")) } else { HostMatch::Exact(name) })
    }

    /// A prefix of whole segments, its trailing slash taken off.
    fn prefix(&mut self, text: &str, path: KeyPath) -> Option<String> {
        let plain = PathAndQuery::try_from(text).is_ok_and(|parsed| parsed.query().is_none());
        if !text.starts_with('/') || !plain || text.contains("//") || text.contains("/.") {
            return self.refuse(
                path,
                text,
                "a path that starts with `/`, without query or dot segments",
            );
        }
        Some(text.strip_suffix('/').unwrap_or(text).into())
    }
}

/// `example.com:80` and `[::1]:80` have a port; `[::1]` has none.
fn has_port(host: &str) -> bool {
    match host.rsplit_once(':') {
        Some((_, port)) => !port.ends_with(']'),
        None => false,
    }
}
