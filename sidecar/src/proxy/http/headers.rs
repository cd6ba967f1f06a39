//! What a head loses and gains on its way to the next hop.
//!
//! Fields that speak of one connection end here (RFC 9110, section 7.6.1), with every field that
//! `Connection` names; those that say where a request came from are added to. `Connection` may
//! not name a field that the message or we depend on: a client could otherwise take its address
//! or its credentials out of the sight of the backend.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, Entry, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, VIA};

pub(super) const X_OUTRIGGER_ERROR: HeaderName = HeaderName::from_static("x-outrigger-error");
const X_OUTRIGGER_AFFINITY: HeaderName = HeaderName::from_static("x-outrigger-affinity");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who sent a request, as the next hop is told.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// Of a peer on a unix socket there is no address.
    address: Option<HeaderValue>,
    /// Whether what it says of earlier hops is believed: on loopback and unix sockets.
    trusted: bool,
}

impl Sender {
    pub(super) fn new(peer: Option<IpAddr>) -> Self {
        let peer = peer.map(|ip| ip.to_canonical());
        Self {
            address: peer.and_then(|ip| HeaderValue::try_from(ip.to_string()).ok()),
            trusted: peer.is_none_or(|ip| ip.is_loopback()),
        }
    }
}

/// Makes the head of a request fit for the backend. `host` is the one that the app asked for.
pub(super) fn request(headers: &mut HeaderMap, sender: &Sender, host: Option<&HeaderValue>) {
    let trailers = headers.get_all(TE).iter().any(names_trailers);
    end_of_hop(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(X_OUTRIGGER_AFFINITY);
    forwarded(headers, sender, host);
    append(headers, VIA, HeaderValue::from_static("1.1 outrigger"));
}

/// Makes the head of an answer fit for the app.
pub(super) fn response(headers: &mut HeaderMap) {
    end_of_hop(headers);
    // Only we say this.
    headers.remove(X_OUTRIGGER_ERROR);
}

/// Takes out of trailers what must not come late, because it frames, routes or authenticates
/// (RFC 9110, section 6.5.1).
pub(super) fn trailers(trailers: &mut HeaderMap) {
    let refused: Vec<_> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in refused {
        trailers.remove(name);
    }
}

fn may_trail(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.starts_with("content-")
        && !is_of_one_hop(name)
        && !matches!(name, "host" | "authorization" | "cookie" | "set-cookie")
}

fn end_of_hop(headers: &mut HeaderMap) {
    // Most messages have none of these fields, and one look tells.
    if !headers.keys().any(|name| is_of_one_hop(name.as_str())) {
        return;
    }
    let named: Vec<HeaderName> = headers.get_all(CONNECTION).iter().flat_map(tokens).collect();
    for name in named {
        if !is_protected(&name) {
            headers.remove(name);
        }
    }
    let announced = announced_trailers(headers);
    let ours: Vec<_> =
        headers.keys().filter(|name| is_of_one_hop(name.as_str())).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    if let Some(announced) = announced {
        headers.insert(TRAILER, announced);
    }
}

fn is_of_one_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

fn is_protected(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "host"
                | "content-length"
                | "cookie"
                | "set-cookie"
                | "authorization"
                | "via"
                | "traceparent"
                | "tracestate"
        )
}

/// The trailer fields that may follow, as a new `Trailer`: hyper relays those that it names.
fn announced_trailers(headers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<HeaderName> =
        headers.get_all(TRAILER).iter().flat_map(tokens).filter(may_trail).collect();
    let list = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| HeaderValue::try_from(list).ok())?
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let tokens = value.as_bytes().split(|byte| *byte == b',');
    tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
}

fn names_trailers(value: &HeaderValue) -> bool {
    let mut codings = value.as_bytes().split(|byte| *byte == b',');
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// A peer that is not trusted starts the story anew; a trusted one is quoted and added to.
fn forwarded(headers: &mut HeaderMap, sender: &Sender, host: Option<&HeaderValue>) {
    if !sender.trusted {
        headers.remove(X_FORWARDED_FOR);
        headers.remove(X_FORWARDED_PROTO);
        headers.remove(X_FORWARDED_HOST);
        headers.remove("forwarded");
        headers.remove("x-real-ip");
    }
    if let Some(address) = &sender.address {
        append(headers, X_FORWARDED_FOR, address.clone());
    }
    if let Entry::Vacant(entry) = headers.entry(X_FORWARDED_PROTO) {
        entry.insert(HeaderValue::from_static("http"));
    }
    if let (Some(host), Entry::Vacant(entry)) = (host, headers.entry(X_FORWARDED_HOST)) {
        entry.insert(host.clone());
    }
}

/// Adds to the list that a field is, folding several lines of it into one.
fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(entry) => drop(entry.insert(value)),
        Entry::Occupied(mut entry) => {
            let mut list = BytesMut::new();
            for earlier in entry.iter() {
                list.extend_from_slice(earlier.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(value.as_bytes());
            // Values that were valid are valid when joined.
            let list = HeaderValue::from_maybe_shared(Bytes::from(list)).unwrap_or(value);
            entry.insert(list);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn sent(fields: &[(&'static str, &'static str)], peer: Option<&str>) -> HeaderMap {
        let mut headers = map(fields);
        let host = HeaderValue::from_static("a.example");
        request(&mut headers, &Sender::new(peer.map(|ip| ip.parse().unwrap())), Some(&host));
        headers
    }

    #[test]
    fn fields_of_one_hop_end_here() {
        let headers = sent(
            &[
                ("connection", "keep-alive, X-Own"),
                ("connection", "x-second"),
                ("x-own", "1"),
                ("x-second", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("proxy-authorization", "Basic eA=="),
                ("te", "gzip, trailers;q=0.5"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("x-outrigger-affinity", "key"),
                ("accept", "*/*"),
            ],
            None,
        );
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "via", "x-forwarded-host", "x-forwarded-proto"]);
    }

    #[test]
    fn connection_cannot_name_what_others_depend_on() {
        let headers = sent(
            &[
                ("connection", "host, content-length, cookie, authorization, x-forwarded-for"),
                ("host", "a"),
                ("content-length", "0"),
                ("cookie", "a=b"),
                ("authorization", "Bearer x"),
            ],
            Some("127.0.0.1"),
        );
        for name in ["host", "content-length", "cookie", "authorization", "x-forwarded-for"] {
            assert!(headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_local_app_is_believed_and_added_to() {
        let headers = sent(
            &[
                ("x-forwarded-for", "10.0.0.9"),
                ("x-forwarded-for", "10.0.0.8"),
                ("x-forwarded-proto", "https"),
                ("via", "1.0 edge"),
            ],
            Some("127.0.0.1"),
        );
        assert_eq!(headers["x-forwarded-for"], "10.0.0.9, 10.0.0.8, 127.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        assert_eq!(headers["via"], "1.0 edge, 1.1 outrigger");
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let claims = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
        ];
        let headers = sent(&claims, Some("192.0.2.1"));
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-real-ip"));
    }

    #[test]
    fn trailers_are_announced_anew_without_what_must_not_trail() {
        let mut headers = map(&[("trailer", "X-Sum, Content-Length"), ("trailer", "grpc-status")]);
        response(&mut headers);
        assert_eq!(headers["trailer"], "x-sum, grpc-status");

        let mut late =
            map(&[("x-sum", "1"), ("host", "a"), ("content-type", "b"), ("set-cookie", "c")]);
        trailers(&mut late);
        assert_eq!(late.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
    }

    #[test]
    fn only_we_speak_of_our_errors() {
        let mut headers =
            map(&[("x-outrigger-error", "timeout"), ("set-cookie", "a"), ("set-cookie", "b")]);
        response(&mut headers);
        assert!(!headers.contains_key("x-outrigger-error"));
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
    }
}
