//! Heads as they leave: what is of one hop stays behind, what is of the way is added.

use std::net::{IpAddr, SocketAddr};

use super::fields::{FieldView, Fields, Kind, may_trail};
use super::framing::Framing;
use super::head::{Request, Response};
use super::target::Target;
use crate::proxy::http::cookie;

/// Who sent a request, as the next hop is told.
#[derive(Debug)]
pub(super) struct Sender {
    /// Of a peer on a unix socket there is none, nor an address.
    pub(super) peer: Option<SocketAddr>,
    address: Option<String>,
    ip: Option<IpAddr>,
    /// Whether what it says of earlier hops is believed: on loopback and unix sockets.
    trusted: bool,
    /// Whether it speaks TLS with us.
    secure: bool,
}

impl Sender {
    pub(super) fn new(peer: Option<SocketAddr>, secure: bool) -> Self {
        let ip = peer.map(|peer| peer.ip().to_canonical());
        Self {
            peer,
            address: ip.map(|ip| ip.to_string()),
            ip,
            trusted: ip.is_none_or(|ip| ip.is_loopback()),
            secure,
        }
    }

    /// The address of the client: the peer's, or that which a trusted peer got the request from,
    /// the last one that it names and that is not of this machine.
    pub(super) fn client(&self, fields: Fields<'_>) -> Option<IpAddr> {
        if !self.trusted {
            return self.ip;
        }
        let address = |member: &[u8]| std::str::from_utf8(member).ok()?.parse::<IpAddr>().ok();
        let named = fields.members(Kind::XForwardedFor).filter_map(address);
        named.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_loopback()).last().or(self.ip)
    }

    /// Whether the client speaks TLS, with us or as a trusted peer says.
    pub(super) fn is_secure(&self, fields: Fields<'_>) -> bool {
        let https = |value: &[u8]| value.eq_ignore_ascii_case(b"https");
        match fields.values(Kind::XForwardedProto).next() {
            Some(said) if self.trusted => https(said),
            _ => self.secure,
        }
    }
}

/// A request as it leaves.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) request: Request<'a>,
    pub(super) target: Target<'a>,
    /// The path that the backend is asked for.
    pub(super) path: &'a str,
    /// The Host that it is sent.
    pub(super) host: &'a [u8],
    pub(super) framing: Framing,
    pub(super) sender: &'a Sender,
    /// The protocol to switch to, if the app asks for one.
    pub(super) upgrade: Option<&'a [u8]>,
    /// The name of a cookie that is ours, and not for the backend to see.
    pub(super) cookie: Option<&'a [u8]>,
}

/// Writes the head of a request.
pub(super) fn request_head(out: &mut Vec<u8>, outgoing: &Outgoing<'_>) {
    let Outgoing { request, target, sender, .. } = outgoing;
    put(out, &[request.method.as_bytes(), b" ", outgoing.path.as_bytes()]);
    put(out, &[target.query.as_bytes(), b" HTTP/1.1\r\nHost: ", outgoing.host, b"\r\n"]);
    let fields = request.fields;
    let names_fields = fields.connection_names_fields();
    for field in fields.iter() {
        let ours = match field.kind {
            Kind::Host | Kind::ContentLength | Kind::OutriggerAffinity => true,
            Kind::Cookie if outgoing.cookie.is_some() => true,
            // Written once, below, with what is added.
            Kind::Via | Kind::XForwardedFor => true,
            Kind::XForwardedProto | Kind::XForwardedHost | Kind::Forwarded | Kind::XRealIp => {
                !sender.trusted
            }
            Kind::Other => has_twin(&field, fields),
            kind => kind.is_of_one_hop(),
        };
        if !(ours || names_fields && fields.dropped_by_connection(&field)) {
            put(out, &[field.name, b": ", field.value, b"\r\n"]);
        }
    }
    if fields.names(Kind::Te, b"trailers") {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if let Some(ours) = outgoing.cookie {
        fields.values(Kind::Cookie).for_each(|value| cookies(out, value, ours));
    }
    forwarded(out, outgoing);
    list(out, b"Via", fields.values(Kind::Via), Some(b"1.1 outrigger"));
    if let Some(protocol) = outgoing.upgrade {
        put(out, &[b"Connection: Upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
    }
    framing(out, outgoing.framing);
    if outgoing.framing == Framing::Chunked {
        trailer(out, fields);
    }
    out.extend_from_slice(b"\r\n");
}

/// The cookies of the app without ours.
fn cookies(out: &mut Vec<u8>, value: &[u8], ours: &[u8]) {
    let start = out.len();
    out.extend_from_slice(b"Cookie: ");
    match cookie::without(out, value, ours) {
        true => out.extend_from_slice(b"\r\n"),
        false => out.truncate(start),
    }
}

/// A peer that is not trusted starts the story anew; a trusted one is quoted and added to.
fn forwarded(out: &mut Vec<u8>, outgoing: &Outgoing<'_>) {
    let Outgoing { request, target, sender, .. } = outgoing;
    let fields = request.fields;
    let earlier = fields.values(Kind::XForwardedFor).filter(|_| sender.trusted);
    list(out, b"X-Forwarded-For", earlier, sender.address.as_deref().map(str::as_bytes));
    let said = |kind| sender.trusted && fields.has(kind);
    if !said(Kind::XForwardedProto) {
        let scheme: &[u8] = if sender.secure { b"https" } else { b"http" };
        put(out, &[b"X-Forwarded-Proto: ", scheme, b"\r\n"]);
    }
    if let Some(host) = target.host.filter(|_| !said(Kind::XForwardedHost)) {
        put(out, &[b"X-Forwarded-Host: ", host.as_bytes(), b"\r\n"]);
    }
}

/// How an answer leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// As the app can read it; see [`framing_for`].
    pub(super) framing: Framing,
    /// Whether the app speaks HTTP/1.0.
    pub http10: bool,
    /// Whether the connection ends with this answer.
    pub(super) close: bool,
    pub(super) trailers: bool,
    /// Whether the request was a HEAD.
    pub(super) to_head: bool,
}

/// The framing of an answer towards the app: an end that only the close says becomes an end that
/// can be told from a failure, where the app knows chunks.
pub(super) fn framing_for(framing: Framing, http10: bool) -> Framing {
    match framing {
        Framing::Chunked | Framing::UntilClose if http10 => Framing::UntilClose,
        Framing::UntilClose => Framing::Chunked,
        other => other,
    }
}

/// Writes the head of a final answer.
pub(super) fn response_head(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    leaving: Leaving,
    date: &[u8],
    set_cookie: &[u8],
) {
    status_line(out, response);
    end_to_end(out, response.fields);
    if !set_cookie.is_empty() {
        put(out, &[b"Set-Cookie: ", set_cookie, b"\r\n"]);
        // A cache must not give one client's cookie to another, whatever the answer says to it.
        if !response.fields.names(Kind::CacheControl, b"private") {
            out.extend_from_slice(b"Cache-Control: private\r\n");
        }
    }
    if !response.fields.has(Kind::Date) {
        put(out, &[b"Date: ", date, b"\r\n"]);
    }
    match leaving.framing {
        // What a GET would have got; the body itself is not there.
        Framing::Empty if leaving.to_head || response.status == 304 => {
            if let Some(length) = response.fields.values(Kind::ContentLength).next() {
                put(out, &[b"Content-Length: ", length, b"\r\n"]);
            }
        }
        other => framing(out, other),
    }
    if leaving.framing == Framing::Chunked && leaving.trailers {
        trailer(out, response.fields);
    }
    connection(out, leaving.http10, leaving.close);
    out.extend_from_slice(b"\r\n");
}

/// Writes an interim answer (1xx).
pub(super) fn interim_head(out: &mut Vec<u8>, response: &Response<'_>) {
    status_line(out, response);
    end_to_end(out, response.fields);
    out.extend_from_slice(b"\r\n");
}

/// Writes the answer that switches protocols.
pub(super) fn switch_head(
    out: &mut Vec<u8>,
    response: &Response<'_>,
    protocol: &[u8],
    set_cookie: &[u8],
) {
    status_line(out, response);
    end_to_end(out, response.fields);
    if !set_cookie.is_empty() {
        put(out, &[b"Set-Cookie: ", set_cookie, b"\r\n"]);
    }
    put(out, &[b"Connection: Upgrade\r\nUpgrade: ", protocol, b"\r\n\r\n"]);
}

/// Says whether the connection goes on, where that is not what its version implies.
pub(super) fn connection(out: &mut Vec<u8>, http10: bool, close: bool) {
    match (http10, close) {
        (_, true) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, false) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, false) => {}
    }
}

fn status_line(out: &mut Vec<u8>, response: &Response<'_>) {
    let mut digits = itoa::Buffer::new();
    let status = digits.format(response.status).as_bytes();
    put(out, &[b"HTTP/1.1 ", status, b" ", response.reason, b"\r\n"]);
}

/// The fields of an answer that go on. That it is an error of ours only we say.
fn end_to_end(out: &mut Vec<u8>, fields: Fields<'_>) {
    let names_fields = fields.connection_names_fields();
    for field in fields.iter() {
        let ours = field.kind.is_of_one_hop()
            || matches!(field.kind, Kind::ContentLength | Kind::OutriggerError);
        if !(ours || names_fields && fields.dropped_by_connection(&field)) {
            put(out, &[field.name, b": ", field.value, b"\r\n"]);
        }
    }
}

/// Never copied: what is written is what the body will have.
fn framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Empty | Framing::UntilClose => {}
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            put(out, &[b"Content-Length: ", digits.format(length).as_bytes(), b"\r\n"]);
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Announces the trailers that may follow.
fn trailer(out: &mut Vec<u8>, fields: Fields<'_>) {
    let names = fields.members(Kind::Trailer).filter(|name| may_trail(name));
    list(out, b"Trailer", names, None);
}

/// Writes a list as one field, with one more member at its end; nothing if it is empty.
fn list<'a>(
    out: &mut Vec<u8>,
    name: &[u8],
    members: impl Iterator<Item = &'a [u8]>,
    last: Option<&'a [u8]>,
) {
    let mut separator: &[u8] = b": ";
    for member in members.chain(last) {
        if separator == b": " {
            out.extend_from_slice(name);
        }
        put(out, &[separator, member]);
        separator = b", ";
    }
    if separator == b", " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a name with `_` has a twin with `-`, of the app or of ours. Some servers take the two
/// for the same, and the one could then speak for the other.
fn has_twin(field: &FieldView<'_>, fields: Fields<'_>) -> bool {
    const ADDED: [&[u8]; 6] = [
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"content-length",
        b"transfer-encoding",
        b"x-outrigger-affinity",
    ];
    let same = |other: &[u8]| {
        let pairs = || field.name.iter().zip(other);
        let alike = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
        field.name.len() == other.len()
            && pairs().all(alike)
            && pairs().any(|(a, b)| *a == b'_' && *b == b'-')
    };
    field.name.contains(&b'_')
        && (ADDED.iter().any(|name| same(name)) || fields.iter().any(|other| same(other.name)))
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
