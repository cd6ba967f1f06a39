//! Listeners.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, Protocol, Raw};
use crate::config::{HttpTraffic, Listener, ListenerTimeouts, TcpTraffic, Traffic, UdpTraffic};
use crate::net::Address;

/// UDP sessions of a listener.
const MAX_SESSIONS: usize = 16_384;

/// Who listens where, and whether for datagrams.
type Taken = BTreeMap<(Address, bool), String>;

impl Judge {
    pub(super) fn listeners(&mut self, raw: &Raw, path: &KeyPath) -> Vec<Listener> {
        let (mut taken, root) = (Taken::new(), KeyPath::default());
        if let Some(admin) = raw.admin.listen.parse() {
            self.take(&mut taken, (admin, false), &root.key("admin"));
        }
        if let Some(Some(control)) = raw.control.listen.parse() {
            self.take(&mut taken, (control, false), &root.key("control"));
        }
        let mut listeners = Vec::new();
        for (name, listener) in &raw.listeners {
            let path = path.key(name);
            self.name(name, path.clone());
            let Some(judged) = self.listener(name, listener, raw, &path) else { continue };
            // A datagram is not a connection: the same port may take both.
            let place = (judged.listen.clone(), matches!(judged.traffic, Traffic::Udp(_)));
            self.take(&mut taken, place, &path);
            listeners.push(judged);
        }
        listeners
    }

    fn take(&mut self, taken: &mut Taken, place: (Address, bool), path: &KeyPath) {
        match taken.get(&place) {
            // Port 0 is a free port, a different one each time.
            Some(_) if matches!(place.0, Address::Tcp(address) if address.port() == 0) => {}
            Some(owner) => {
                let message = format!("{} is taken by {owner}", place.0);
                self.fault::<()>(path.key("listen"), message);
            }
            None => drop(taken.insert(place, path.to_string())),
        }
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
        let traffic = match raw.protocol {
            Protocol::Http => self.http_traffic(raw, all, path).map(Traffic::Http),
            Protocol::Tcp => self.tcp_traffic(raw, all, path).map(Traffic::Tcp),
            Protocol::Udp => self.udp_traffic(raw, all, path).map(Traffic::Udp),
        };
        self.keys_of_protocol(raw, path);
        let proxy_protocol = self.trusted(raw, path);
        let tls = self.listener_tls(raw.tls.as_ref(), &path.key("tls"));
        Some(Listener {
            name: name.into(),
            listen: listen?,
            max_connections: raw.max_connections.map(|max| max as usize),
            max_per_source: raw.max_connections_per_source,
            proxy_protocol: proxy_protocol?,
            tls: tls?,
            traffic: traffic?,
        })
    }

    fn http_traffic(
        &mut self,
        raw: &raw::Listener,
        all: &Raw,
        path: &KeyPath,
    ) -> Option<HttpTraffic> {
        let routes = self.routes(raw, path, |judge, route, path| judge.route(route, all, path));
        let timeouts = path.key("timeouts");
        let head = self.timeout(&raw.timeouts.head, timeouts.key("head"));
        let idle = self.timeout(&raw.timeouts.idle, timeouts.key("idle"));
        let body_idle = self.timeout(&raw.timeouts.body_idle, timeouts.key("body_idle"));
        let write_stall = self.timeout(&raw.timeouts.write_stall, timeouts.key("write_stall"));
        let timeouts = ListenerTimeouts {
            head: head?,
            idle: idle?,
            body_idle: body_idle?,
            write_stall: write_stall?,
        };
        Some(HttpTraffic { routes: routes?, timeouts })
    }

    fn tcp_traffic(
        &mut self,
        raw: &raw::Listener,
        all: &Raw,
        path: &KeyPath,
    ) -> Option<TcpTraffic> {
        let routes = self.routes(raw, path, |judge, route, path| judge.tcp_route(route, all, path));
        Some(TcpTraffic { routes: routes? })
    }

    fn udp_traffic(
        &mut self,
        raw: &raw::Listener,
        all: &Raw,
        path: &KeyPath,
    ) -> Option<UdpTraffic> {
        let cluster = match &raw.cluster {
            Some(cluster) => self.known_cluster(cluster, all, path.key("cluster")),
            None => self.missing(path.key("cluster")),
        };
        if let Some(text) = &raw.listen
            && let Some(Address::Unix(_)) = text.parse()
        {
            self.refuse::<()>(path.key("listen"), &text.0, "ip:port, since protocol = \"udp\"");
        }
        Some(UdpTraffic {
            cluster: cluster?,
            max_sessions: raw.max_sessions.map_or(MAX_SESSIONS, |max| max as usize),
            max_replies: raw.max_replies,
        })
    }

    /// What a protocol does not use is refused: it would be taken for effective.
    fn keys_of_protocol(&mut self, raw: &raw::Listener, path: &KeyPath) {
        let (http, tcp, udp) = (Protocol::Http, Protocol::Tcp, Protocol::Udp);
        let given: [(&str, bool, &[Protocol]); 8] = [
            ("proxy_protocol", raw.proxy_protocol, &[http, tcp]),
            ("tls", raw.tls.is_some(), &[http, tcp]),
            ("timeouts", raw.timeouts != raw::ListenerTimeouts::default(), &[http]),
            ("routes", !raw.routes.is_empty(), &[http, tcp]),
            ("max_connections", raw.max_connections.is_some(), &[http, tcp]),
            ("max_connections_per_source", raw.max_connections_per_source.is_some(), &[http, tcp]),
            ("max_sessions", raw.max_sessions.is_some(), &[udp]),
            ("max_replies", raw.max_replies.is_some(), &[udp]),
        ];
        for (key, given, protocols) in given {
            if given && !protocols.contains(&raw.protocol) {
                let message = format!("protocol = {} does not take it", raw.protocol.name());
                self.fault::<()>(path.key(key), message);
            }
        }
    }

    /// From whom headers of the PROXY protocol are believed. Nobody is guessed to be: such a header
    /// decides who a client is.
    fn trusted(&mut self, raw: &raw::Listener, path: &KeyPath) -> Option<Option<Vec<IpNet>>> {
        let networks = self.networks(&raw.trusted_cidrs, &path.key("trusted_cidrs"));
        match (raw.proxy_protocol, raw.trusted_cidrs.is_empty()) {
            (true, false) => Some(Some(networks)),
            (false, true) => Some(None),
            (true, true) => self.fault(
                path.key("proxy_protocol"),
                "needs `trusted_cidrs`, the networks of those who send the headers",
            ),
            (false, false) => {
                self.fault(path.key("trusted_cidrs"), "needs `proxy_protocol = true`")
            }
        }
    }
}
