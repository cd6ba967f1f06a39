//! Which cluster a connection goes to: the first route that matches what its TLS handshake says.

use crate::config::{HostMatch, TcpRoute};
use crate::net::tls::hello::Hello;

/// The routes of a listener, each with what it leads to.
#[derive(Debug)]
pub(in crate::proxy) struct Routes<C> {
    routes: Vec<Route<C>>,
}

#[derive(Debug)]
struct Route<C> {
    sni: Option<HostMatch>,
    alpn: Option<String>,
    leads_to: C,
}

impl<C> Routes<C> {
    /// `leads_to` has one item for each route.
    pub(in crate::proxy) fn new(routes: &[TcpRoute], leads_to: Vec<C>) -> Self {
        let route = |(route, leads_to): (&TcpRoute, C)| Route {
            sni: route.sni.clone(),
            alpn: route.alpn.clone(),
            leads_to,
        };
        Self { routes: routes.iter().zip(leads_to).map(route).collect() }
    }

    /// Whether it matters what a client says in its handshake.
    pub(super) fn ask(&self) -> bool {
        self.routes.iter().any(|route| route.sni.is_some() || route.alpn.is_some())
    }

    /// The first route for a client that says this.
    pub(super) fn find(&self, hello: &Hello) -> Option<&C> {
        let route = self.routes.iter().find(|route| route.matches(hello))?;
        Some(&route.leads_to)
    }
}

impl<C> Route<C> {
    fn matches(&self, hello: &Hello) -> bool {
        let named = match (&self.sni, &hello.sni) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(name)) => wanted.matches(name),
        };
        let offers = |wanted: &String| hello.alpn.iter().any(|offer| offer == wanted.as_bytes());
        named && self.alpn.as_ref().is_none_or(offers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes<&'static str> {
        let route = |sni: Option<HostMatch>, alpn: Option<&str>| TcpRoute {
            sni,
            alpn: alpn.map(Into::into),
            cluster: "".into(),
        };
        let exact = |name: &str| Some(HostMatch::Exact(name.into()));
        let settings = [
            route(exact("db.example.com"), Some("postgresql")),
            route(exact("db.example.com"), None),
            route(Some(HostMatch::Suffix(".example.com".into())), None),
            route(None, Some("h2")),
        ];
        Routes::new(&settings, vec!["db direct", "db", "example", "h2"])
    }

    fn found(sni: Option<&str>, alpn: &[&str]) -> Option<&'static str> {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        routes().find(&Hello { sni: sni.map(Into::into), alpn }).copied()
    }

    #[test]
    fn the_first_route_whose_conditions_all_hold_wins() {
        assert_eq!(found(Some("db.example.com"), &["postgresql"]), Some("db direct"));
        assert_eq!(found(Some("DB.example.com"), &["http/1.1"]), Some("db"));
        assert_eq!(found(Some("other.example.com"), &["h2"]), Some("example"));
        assert_eq!(found(Some("example.com"), &["http/1.1", "h2"]), Some("h2"));
        assert_eq!(found(None, &["h2"]), Some("h2"));
        assert_eq!(found(Some("example.com"), &[]), None);
        assert_eq!(found(None, &[]), None);
    }
}
