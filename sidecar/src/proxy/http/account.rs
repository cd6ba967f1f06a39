//! What the access log is told of a request.
//!
//! It is gathered as the request goes its way, and only where there is such a log. What the app has
//! said is read from the head at the end, and nothing else of it than what a line has: neither the
//! query, nor credentials before a host, nor any other field.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::h1::fields::Kind;
use super::h1::head::Request;
use super::site::Site;
use crate::telemetry::access::{self, Entry, ListenerLog, Moved, Text};
use crate::telemetry::metrics::End;

#[derive(Debug)]
pub(super) struct Account<'a> {
    log: &'a ListenerLog,
    client: Option<SocketAddr>,
    /// `None`: what was sent is none.
    request: Option<Request<'a>>,
    attempts: Cell<usize>,
    /// The one that answered, or was asked last.
    backend: RefCell<Option<Arc<str>>>,
    /// Bytes of bodies.
    to_backend: Cell<u64>,
    from_backend: Cell<u64>,
}

/// How a request ended.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) cluster: Option<Arc<str>>,
    pub(super) status: u16,
    pub(super) error: Option<&'static str>,
    pub(super) lasted: Duration,
    pub(super) end: End,
}

impl<'a> Account<'a> {
    /// `None`: nothing is written down.
    pub(super) fn open(
        site: &'a Site,
        client: Option<SocketAddr>,
        request: Option<Request<'a>>,
    ) -> Option<Box<Self>> {
        let log = site.access.as_deref()?;
        let (attempts, backend, to_backend, from_backend) = Default::default();
        // Boxed, so that connections without such a log have no room for it.
        Some(Box::new(Self { log, client, request, attempts, backend, to_backend, from_backend }))
    }

    /// A backend is asked, the latest of so many.
    pub(super) fn asked(&self, backend: &Arc<str>, attempts: usize) {
        self.attempts.set(attempts);
        self.backend.replace(Some(Arc::clone(backend)));
    }

    /// Of several that were asked this one has answered.
    pub(super) fn answered(&self, backend: &Arc<str>) {
        self.backend.replace(Some(Arc::clone(backend)));
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.to_backend.set(self.to_backend.get() + bytes);
    }

    pub(super) fn received(&self, bytes: u64) {
        self.from_backend.set(self.from_backend.get() + bytes);
    }

    /// Has it written down.
    pub(super) fn close(&self, answer: Answer) {
        let request = self.request.as_ref();
        let field = |kind| request.and_then(|request| request.fields.values(kind).next());
        let target = request.map(|request| Place::of(request.target)).unwrap_or_default();
        let host = target.authority.map(str::as_bytes).or_else(|| field(Kind::Host));
        let user_agent = request.and_then(user_agent);
        self.log.note(Entry {
            cluster: answer.cluster.unwrap_or_default(),
            client: self.client,
            backend: self.backend.take(),
            lasted: answer.lasted,
            moved: Moved {
                to_backend: self.to_backend.get(),
                from_backend: self.from_backend.get(),
            },
            end: answer.end,
            request: Some(access::Request {
                status: answer.status,
                error: answer.error,
                attempts: self.attempts.get(),
                version: request.map(|request| if request.http10 { "1.0" } else { "1.1" }),
                method: request.map(|request| Text::of(request.method.as_bytes())),
                path: target.path.map(|path| Text::of(path.as_bytes())),
                host: host.map(without_credentials).map(Text::of),
                user_agent: user_agent.map(Text::of),
            }),
        });
    }
}

/// Where a target points to, whether or not it is one that is served.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place<'a> {
    authority: Option<&'a str>,
    path: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn of(target: &'a str) -> Self {
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let target = &target[..end];
        if target.starts_with('/') || target == "*" {
            return Self { authority: None, path: Some(target) };
        }
        // Whatever is neither has no path.
        let Some((_, rest)) = target.split_once("://") else { return Self::default() };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        Self { authority: Some(authority), path: Some(path) }
    }
}

/// Looked for by its name: requests that are not written down do not pay for one more kind of field.
fn user_agent<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let mut fields = request.fields.iter();
    fields.find(|field| field.name.eq_ignore_ascii_case(b"user-agent")).map(|field| field.value)
}

/// A host, of which somebody may have thought that a name and a password belong there.
fn without_credentials(host: &[u8]) -> &[u8] {
    host.rsplit(|byte| *byte == b'@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_without_what_may_be_secret() {
        let cases = [
            ("/a;b?token=c", None, Some("/a;b")),
            ("/a#b", None, Some("/a")),
            ("*", None, Some("*")),
            ("http://x:81/a?http://y/b", Some("x:81"), Some("/a")),
            ("http://x?a", Some("x"), Some("/")),
            ("/http://x/a", None, Some("/http://x/a")),
            ("x:443", None, None),
            ("a?http://x/b", None, None),
            ("", None, None),
        ];
        for (target, authority, path) in cases {
            assert_eq!(Place::of(target), Place { authority, path }, "{target}");
        }
        assert_eq!(without_credentials(b"me:secret@x:80"), b"x:80");
        assert_eq!(without_credentials(b"x"), b"x");
    }
}
