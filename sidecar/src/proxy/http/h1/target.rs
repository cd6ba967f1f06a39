//! What a request asks for: its method, target, host and expectation, held to the letter.

use super::defect::Defect;
use super::fields::Kind;
use super::head::{MAX_TARGET, Request};

/// A target, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// From the slash on, without the query; or `*`.
    pub path: &'a str,
    /// With its question mark; empty if there is none.
    pub query: &'a str,
    /// The host that the request is for, with its port; only HTTP/1.0 may do without.
    pub host: Option<&'a str>,
}

/// Takes a request's target apart, or says why it cannot be served.
pub fn check<'a>(request: &Request<'a>) -> Result<Target<'a>, Defect> {
    if matches!(request.method, "CONNECT" | "TRACE") {
        return Err(Defect::Method);
    }
    let (authority, rest) = split_target(request)?;
    let (path, query) = split_query(rest);
    check_expectation(request)?;
    let host = host(request)?;
    match authority {
        // An absolute target names the host, whatever Host says (RFC 9112, section 3.2.2).
        Some(authority) if !is_host(authority) => Err(Defect::Host),
        Some(_) => Ok(Target { path, query, host: authority }),
        None => Ok(Target { path, query, host }),
    }
}

/// The authority of an absolute target, and what comes after it.
fn split_target<'a>(request: &Request<'a>) -> Result<(Option<&'a str>, &'a str), Defect> {
    let target = request.target;
    if target.len() > MAX_TARGET {
        return Err(Defect::TargetTooLong);
    }
    // Some servers take a backslash for a slash, stop at %00, cut at a fragment, or decode bytes
    // above ASCII in ways of their own; what is in a target must mean one thing to all.
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'\\' && byte != b'#';
    if !target.bytes().all(plain) || target.contains("%00") {
        return Err(Defect::TargetCharacters);
    }
    match target.as_bytes() {
        [b'/', ..] => return Ok((None, target)),
        b"*" if request.method == "OPTIONS" => return Ok((None, target)),
        _ => {}
    }
    let after = |scheme: &str| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after("http://").or_else(|| after("https://")).ok_or(Defect::TargetForm)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    match rest {
        // RFC 9112, section 3.2.4: the whole server.
        "" if request.method == "OPTIONS" => Ok((Some(authority), "*")),
        rest => Ok((Some(authority), rest)),
    }
}

/// An absolute target may have no path, which is the path `/`.
fn split_query(rest: &str) -> (&str, &str) {
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    (if path.is_empty() { "/" } else { path }, query)
}

fn check_expectation(request: &Request<'_>) -> Result<(), Defect> {
    let known = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
    match request.fields.values(Kind::Expect).all(known) {
        true => Ok(()),
        false => Err(Defect::Expectation),
    }
}

fn host<'a>(request: &Request<'a>) -> Result<Option<&'a str>, Defect> {
    let mut hosts = request.fields.values(Kind::Host);
    match (hosts.next(), hosts.next()) {
        (None, _) if request.http10 => Ok(None),
        (None, _) => Err(Defect::NoHost),
        (Some(_), Some(_)) => Err(Defect::SeveralHosts),
        (Some(host), None) => match std::str::from_utf8(host) {
            Ok(host) if is_host(host) => Ok(Some(host)),
            _ => Err(Defect::Host),
        },
    }
}

/// `uri-host [":" port]`, where the host is a name, an IPv4 address or an IPv6 address in
/// brackets, and is not empty.
fn is_host(text: &str) -> bool {
    let (host, port) = split_port(text);
    let is_port = |port: &str| {
        port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    let is_name = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(is_name_byte),
    };
    is_name && port.is_none_or(is_port)
}

/// The host without its port, and the port.
pub fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// Unreserved characters and sub-delimiters, but no comma: a list of hosts is not a host. And no
/// percent: whether `%61` is the host `a` is not the same to all.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::http::h1::head::{Progress, RequestHead};

    fn checked(text: &str, test: impl Fn(Result<Target<'_>, Defect>)) {
        let mut head = RequestHead::default();
        let length = head.parse(text.as_bytes(), &mut Progress::default()).unwrap();
        assert_eq!(length, Some(text.len()), "{text:?}");
        test(check(&head.view()));
    }

    fn host_of(fields: &str, expected: Result<Option<&str>, Defect>) {
        checked(&format!("GET / HTTP/1.1\r\n{fields}\r\n"), |target| {
            assert_eq!(target.map(|target| target.host), expected, "{fields:?}");
        });
    }

    #[test]
    fn exactly_one_valid_host() {
        for good in ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:8080", "a:", "A_b-c"] {
            host_of(&format!("Host: {good}\r\n"), Ok(Some(good)));
        }
        let bad = [
            "", ":80", "a b", "a/b", "u@a", "a,b", "a:b", "a:99999", "a:-1", "[::1", "[x]", "::1",
            "a\\b", "a#b", "a?b", "é", "%61",
        ];
        for bad in bad {
            host_of(&format!("Host: {bad}\r\n"), Err(Defect::Host));
        }
        host_of("Host: a\r\nHost: a\r\n", Err(Defect::SeveralHosts));
        host_of("", Err(Defect::NoHost));
        checked("GET / HTTP/1.0\r\n\r\n", |target| assert_eq!(target.unwrap().host, None));
    }

    #[test]
    fn targets_are_taken_apart() {
        let cases = [
            ("GET", "/a%2Fb;c?d=e?", ("/a%2Fb;c", "?d=e?", "h")),
            ("OPTIONS", "*", ("*", "", "h")),
            ("GET", "http://x:81/a?b", ("/a", "?b", "x:81")),
            ("GET", "HTTPS://x", ("/", "", "x")),
            ("GET", "http://x?q", ("/", "?q", "x")),
            ("OPTIONS", "http://x", ("*", "", "x")),
            ("GET", "//x/y", ("//x/y", "", "h")),
        ];
        for (method, target, (path, query, host)) in cases {
            checked(&format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"), |got| {
                assert_eq!(got, Ok(Target { path, query, host: Some(host) }), "{target}");
            });
        }
    }

    #[test]
    fn targets_that_are_not_served() {
        let cases = [
            ("GET", "*", Defect::TargetForm),
            ("GET", "a", Defect::TargetForm),
            ("GET", "ftp://a/", Defect::TargetForm),
            ("GET", "http:/a", Defect::TargetForm),
            ("GET", "http:///a", Defect::Host),
            ("GET", "http://u@a/", Defect::Host),
            ("GET", "/a\\b", Defect::TargetCharacters),
            ("GET", "/a%00", Defect::TargetCharacters),
            ("GET", "/a#b", Defect::TargetCharacters),
            ("GET", "/é", Defect::TargetCharacters),
            ("CONNECT", "a:80", Defect::Method),
            ("TRACE", "/", Defect::Method),
        ];
        for (method, target, defect) in cases {
            checked(&format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"), |got| {
                assert_eq!(got, Err(defect), "{target}");
            });
        }
        let long = "a".repeat(MAX_TARGET);
        checked(&format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), |got| {
            assert_eq!(got, Err(Defect::TargetTooLong));
        });
    }

    #[test]
    fn only_one_expectation_is_known() {
        host_of("Host: a\r\nExpect: 100-Continue\r\n", Ok(Some("a")));
        host_of("Host: a\r\nExpect: a-miracle\r\n", Err(Defect::Expectation));
    }
}
