//! Routes: where the traffic of a listener goes.

use std::sync::Arc;

use http::uri::PathAndQuery;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, Raw};
use crate::config::schema::nearest;
use crate::config::{HostMatch, Route, TcpRoute};

/// The longest name of a protocol in a TLS handshake (RFC 7301, section 3.1).
const MAX_ALPN: usize = 255;

impl Judge {
    /// The routes of a listener, each judged by `judge`; `cluster` is a route that takes everything.
    pub(super) fn routes<R>(
        &mut self,
        raw: &raw::Listener,
        path: &KeyPath,
        judge: impl Fn(&mut Self, &raw::Route, &KeyPath) -> Option<R>,
    ) -> Option<Vec<R>> {
        match (&raw.cluster, raw.routes.as_slice()) {
            (Some(cluster), []) => {
                let everything =
                    raw::Route { cluster: Some(cluster.clone()), ..Default::default() };
                judge(self, &everything, path).map(|route| vec![route])
            }
            (None, []) => self.fault(path.clone(), "needs `cluster` or `routes`"),
            (None, routes) => {
                let path = path.key("routes");
                let judged: Vec<_> = routes
                    .iter()
                    .enumerate()
                    .map(|(i, route)| judge(self, route, &path.index(i)))
                    .collect();
                judged.into_iter().collect()
            }
            (Some(_), _) => self.fault(path.key("cluster"), "give either `cluster` or `routes`"),
        }
    }

    pub(super) fn route(&mut self, raw: &raw::Route, all: &Raw, path: &KeyPath) -> Option<Route> {
        let of_tcp = [("sni", raw.sni.is_some()), ("alpn", raw.alpn.is_some())];
        self.conditions_of_others(of_tcp, "http", path);
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

    pub(super) fn tcp_route(
        &mut self,
        raw: &raw::Route,
        all: &Raw,
        path: &KeyPath,
    ) -> Option<TcpRoute> {
        let of_http = [
            ("host", raw.host.is_some()),
            ("path_prefix", raw.path_prefix.is_some()),
            ("rewrite_prefix", raw.rewrite_prefix.is_some()),
        ];
        self.conditions_of_others(of_http, "tcp", path);
        let cluster = match &raw.cluster {
            Some(cluster) => self.known_cluster(cluster, all, path.key("cluster")),
            None => self.missing(path.key("cluster")),
        };
        let sni = match &raw.sni {
            Some(name) => self.host_match(name, path.key("sni")).map(Some),
            None => Some(None),
        };
        let alpn = match &raw.alpn {
            Some(name) if name.is_empty() || name.len() > MAX_ALPN => {
                self.refuse(path.key("alpn"), name, "the name of a protocol, at most 255 bytes")
            }
            name => Some(name.clone()),
        };
        Some(TcpRoute { sni: sni?, alpn: alpn?, cluster: cluster? })
    }

    fn conditions_of_others<const N: usize>(
        &mut self,
        given: [(&str, bool); N],
        protocol: &str,
        path: &KeyPath,
    ) {
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            let message = format!("routes of protocol = {protocol:?} do not take it");
            self.fault::<()>(path.key(key), message);
        }
    }

    pub(super) fn known_cluster(
        &mut self,
        name: &str,
        all: &Raw,
        path: KeyPath,
    ) -> Option<Arc<str>> {
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
