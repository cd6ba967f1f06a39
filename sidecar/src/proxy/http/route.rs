//! Which cluster a request goes to: the first route that matches.

use std::borrow::Cow;

use super::h1::target::split_port;
use crate::config::{self, HostMatch};

/// The routes of a listener, each with what it leads to.
#[derive(Debug)]
pub(crate) struct Routes<C> {
    routes: Vec<Route<C>>,
    /// Whether any route looks at the path, so that it must be made canonical first.
    pub(super) by_path: bool,
}

#[derive(Debug)]
struct Route<C> {
    host: Option<HostMatch>,
    path_prefix: Option<String>,
    rewrite_prefix: Option<String>,
    leads_to: C,
}

/// A route that matched.
#[derive(Debug)]
pub(super) struct Match<'r, 'p, C> {
    pub(super) leads_to: &'r C,
    /// The path that the backend is sent.
    pub(super) path: Cow<'p, str>,
}

impl<C> Routes<C> {
    /// `leads_to` has one item for each route.
    pub(crate) fn new(routes: &[config::Route], leads_to: Vec<C>) -> Self {
        let by_path = routes.iter().any(|route| route.path_prefix.is_some());
        let route = |(route, leads_to): (&config::Route, C)| Route {
            host: route.host.clone(),
            path_prefix: route.path_prefix.clone(),
            rewrite_prefix: route.rewrite_prefix.clone(),
            leads_to,
        };
        Self { routes: routes.iter().zip(leads_to).map(route).collect(), by_path }
    }

    /// The first route for this host (with or without port) and path (without query).
    pub(super) fn find<'r, 'p>(
        &'r self,
        host: Option<&str>,
        path: Cow<'p, str>,
    ) -> Option<Match<'r, 'p, C>> {
        let route = self.routes.iter().find(|route| route.matches(host, &path))?;
        Some(Match { leads_to: &route.leads_to, path: route.rewrite(path) })
    }
}

impl<C> Route<C> {
    fn matches(&self, host: Option<&str>, path: &str) -> bool {
        let host_matches = match (&self.host, host) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(host)) => wanted.matches(split_port(host).0),
        };
        host_matches
            && self.path_prefix.as_deref().is_none_or(|prefix| rest_after(prefix, path).is_some())
    }

    fn rewrite<'p>(&self, path: Cow<'p, str>) -> Cow<'p, str> {
        let (Some(prefix), Some(rewrite)) = (&self.path_prefix, &self.rewrite_prefix) else {
            return path;
        };
        match rest_after(prefix, &path) {
            // What is left starts with a slash or is empty, so none is doubled.
            Some("") if rewrite.is_empty() => "/".into(),
            Some(rest) => format!("{rewrite}{rest}").into(),
            None => path,
        }
    }
}

/// What follows `prefix`, a number of whole segments, in `path`; empty or from its slash on.
fn rest_after<'p>(prefix: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(table: &[(Option<HostMatch>, Option<&str>, Option<&str>)]) -> Routes<usize> {
        let routes = table.iter().enumerate().map(|(i, (host, prefix, rewrite))| Route {
            host: host.clone(),
            path_prefix: prefix.map(str::to_owned),
            rewrite_prefix: rewrite.map(str::to_owned),
            leads_to: i,
        });
        Routes { routes: routes.collect(), by_path: true }
    }

    fn find(routes: &Routes<usize>, host: &str, path: &str) -> Option<(usize, String)> {
        let found = routes.find(Some(host), path.to_owned().into())?;
        Some((*found.leads_to, found.path.into_owned()))
    }

    #[test]
    fn prefixes_match_whole_segments() {
        let table = routes(&[(None, Some("/api"), None), (None, Some(""), None)]);
        for path in ["/api", "/api/", "/api/x"] {
            assert_eq!(find(&table, "h", path), Some((0, path.into())));
        }
        for path in ["/apix", "/", "/x/api", "/API"] {
            assert_eq!(find(&table, "h", path), Some((1, path.into())));
        }
    }

    #[test]
    fn rewriting_never_doubles_a_slash() {
        let table = routes(&[(None, Some("/static"), Some("")), (None, Some("/a"), Some("/b/c"))]);
        let cases = [
            ("/static", "/"),
            ("/static/", "/"),
            ("/static/x/y", "/x/y"),
            ("/a", "/b/c"),
            ("/a/x", "/b/c/x"),
        ];
        for (path, expected) in cases {
            assert_eq!(find(&table, "h", path).unwrap().1, expected);
        }
    }

    #[test]
    fn hosts_match_exactly_or_by_suffix_without_port_and_case() {
        let exact = HostMatch::Exact("a.example".into());
        let suffix = HostMatch::Suffix(".example".into());
        let table = routes(&[(Some(exact), None, None), (Some(suffix), None, None)]);
        let route = |host| find(&table, host, "/").map(|(route, _)| route);
        assert_eq!(route("a.EXAMPLE:8080"), Some(0));
        assert_eq!(route("b.a.example"), Some(1));
        for host in ["example", ".example", "aexample", "a.example.org", "[::1]:80"] {
            assert_eq!(route(host), None, "{host}");
        }
        assert!(table.find(None, "/".into()).is_none());
    }
}
