//! What a request may look like, beyond what the HTTP parser has refused already.
//!
//! hyper refuses most malformed heads itself. What it lets pass and a proxy must not: a missing
//! or doubtful Host, targets that other servers read in another way, transfer codings that we
//! would have to undo, and methods that make a tunnel or an echo (RFC 9112, sections 3.2 and 6;
//! RFC 9110, sections 7.2 and 9.3).

use http::StatusCode;

/// Longest target that is taken, in bytes.
const MAX_TARGET: usize = 8 << 10;

/// Why a request is refused: a status and a few words for whoever debugs the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
}

const fn bad(why: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, why }
}

/// The parts of a request head that are judged.
#[derive(Debug)]
pub(super) struct Head<'a, H, T, E> {
    pub(super) method: &'a str,
    /// Path and query, or `*`; what an absolute target has after its authority.
    pub(super) target: &'a str,
    /// The authority of an absolute target.
    pub(super) authority: Option<&'a str>,
    pub(super) http10: bool,
    /// The values of each field of that name, in order.
    pub(super) host: H,
    pub(super) transfer_encoding: T,
    pub(super) expect: E,
}

impl<'a, H, T, E> Head<'a, H, T, E>
where
    H: Iterator<Item = &'a [u8]>,
    T: Iterator<Item = &'a [u8]>,
    E: Iterator<Item = &'a [u8]>,
{
    /// The host that the request is for, or why it is refused. Only HTTP/1.0 may do without.
    pub(super) fn check(self) -> Result<Option<&'a str>, Refusal> {
        check_method(self.method)?;
        check_target(self.method, self.target)?;
        check_transfer_encoding(self.transfer_encoding)?;
        check_expect(self.expect)?;
        let host = check_host(self.host, self.http10)?;
        match self.authority {
            // An absolute target names the host, whatever Host says (RFC 9112, section 3.2.2).
            Some(authority) if !valid_host(authority) => Err(bad("bad authority in the target")),
            Some(authority) => Ok(Some(authority)),
            None => Ok(host),
        }
    }
}

fn check_method(method: &str) -> Result<(), Refusal> {
    match method {
        "CONNECT" | "TRACE" => {
            Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, why: "method not allowed" })
        }
        _ => Ok(()),
    }
}

fn check_target(method: &str, target: &str) -> Result<(), Refusal> {
    if target.len() > MAX_TARGET {
        return Err(Refusal { status: StatusCode::URI_TOO_LONG, why: "target is too long" });
    }
    match target.as_bytes() {
        b"*" if method == "OPTIONS" => return Ok(()),
        [b'/', ..] => {}
        _ => return Err(bad("target is neither a path nor absolute")),
    }
    // Some servers take a backslash for a slash, stop at %00, or decode bytes above ASCII in
    // ways of their own; what is in a path must mean one thing to all.
    let plain = |byte: &u8| (0x21..=0x7e).contains(byte) && *byte != b'\\';
    if !target.as_bytes().iter().all(plain) || target.contains("%00") {
        return Err(bad("target has characters that a URI cannot have"));
    }
    Ok(())
}

fn check_transfer_encoding<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Result<(), Refusal> {
    let Some(value) = fields.next() else { return Ok(()) };
    if fields.next().is_some() {
        return Err(bad("more than one Transfer-Encoding"));
    }
    if value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    // A body in another coding would be passed on as if it had none.
    Err(Refusal { status: StatusCode::NOT_IMPLEMENTED, why: "transfer coding is not chunked" })
}

fn check_expect<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Result<(), Refusal> {
    let known = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
    match fields.all(known) {
        true => Ok(()),
        false => {
            Err(Refusal { status: StatusCode::EXPECTATION_FAILED, why: "unknown expectation" })
        }
    }
}

fn check_host<'a>(
    mut fields: impl Iterator<Item = &'a [u8]>,
    http10: bool,
) -> Result<Option<&'a str>, Refusal> {
    let host = match (fields.next(), fields.next()) {
        (None, _) if http10 => return Ok(None),
        (None, _) => return Err(bad("no Host")),
        (Some(host), None) => host,
        (Some(_), Some(_)) => return Err(bad("more than one Host")),
    };
    match std::str::from_utf8(host) {
        Ok(host) if valid_host(host) => Ok(Some(host)),
        _ => Err(bad("bad Host")),
    }
}

/// `uri-host [":" port]` (RFC 9110, section 7.2), where the host is a name, an IPv4 address or an
/// IPv6 address in brackets, and is not empty.
fn valid_host(text: &str) -> bool {
    let (host, port) = split_port(text);
    let valid_port = port.is_none_or(|port| {
        port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    let valid_name = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(is_name_byte),
    };
    valid_port && valid_name
}

/// Unreserved characters and sub-delimiters, but no comma: a list of hosts is not a host.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

/// The host without its port, and the port.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = Vec<&'a [u8]>;

    #[derive(Clone)]
    struct Request<'a> {
        method: &'a str,
        target: &'a str,
        authority: Option<&'a str>,
        http10: bool,
        host: Fields<'a>,
        transfer_encoding: Fields<'a>,
        expect: Fields<'a>,
    }

    fn get<'a>() -> Request<'a> {
        Request {
            method: "GET",
            target: "/",
            authority: None,
            http10: false,
            host: vec![b"a.example"],
            transfer_encoding: vec![],
            expect: vec![],
        }
    }

    impl<'a> Request<'a> {
        fn check(&self) -> Result<Option<&'a str>, u16> {
            let head = Head {
                method: self.method,
                target: self.target,
                authority: self.authority,
                http10: self.http10,
                host: self.host.iter().copied(),
                transfer_encoding: self.transfer_encoding.iter().copied(),
                expect: self.expect.iter().copied(),
            };
            head.check().map_err(|refusal| refusal.status.as_u16())
        }
    }

    #[test]
    fn exactly_one_valid_host() {
        let host = |fields: Fields<'static>| Request { host: fields, ..get() }.check();
        for good in ["a", "a.b:80", "127.0.0.1", "[::1]", "[::1]:8080", "a:", "A_b-c"] {
            assert_eq!(host(vec![good.as_bytes()]), Ok(Some(good)));
        }
        let bad = [
            "", ":80", "a b", "a/b", "u@a", "a,b", "a:b", "a:99999", "a:-1", "[::1", "[x]", "::1",
            "a\\b", "a#b", "a?b", "é",
        ];
        for bad in bad {
            assert_eq!(host(vec![bad.as_bytes()]), Err(400), "{bad}");
        }
        assert_eq!(host(vec![b"a", b"a"]), Err(400));
        assert_eq!(host(vec![]), Err(400));
        assert_eq!(Request { host: vec![], http10: true, ..get() }.check(), Ok(None));
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let absolute = Request { authority: Some("b:81"), ..get() };
        assert_eq!(absolute.check(), Ok(Some("b:81")));
        assert_eq!(Request { authority: Some("u@b"), ..get() }.check(), Err(400));
        assert_eq!(Request { host: vec![b"a b"], ..absolute }.check(), Err(400));
    }

    #[test]
    fn targets() {
        let target = |method, target| Request { method, target, ..get() }.check().err();
        assert_eq!(target("GET", "/a%2Fb;c?d=e"), None);
        assert_eq!(target("OPTIONS", "*"), None);
        for bad in ["*", "", "a", "/a\\b", "/a%00", "/é", "/a b", "/\u{7f}"] {
            assert_eq!(target("GET", bad), Some(400), "{bad}");
        }
        let longest = format!("/{}", "a".repeat(MAX_TARGET - 1));
        assert_eq!(target("GET", &longest), None);
        assert_eq!(target("GET", &format!("{longest}a")), Some(414));
    }

    #[test]
    fn methods_that_tunnel_or_echo() {
        for method in ["CONNECT", "TRACE"] {
            assert_eq!(Request { method, ..get() }.check(), Err(405));
        }
    }

    #[test]
    fn transfer_coding_is_chunked_once() {
        let coding = |fields| Request { transfer_encoding: fields, ..get() }.check().err();
        assert_eq!(coding(vec![b"Chunked "]), None);
        assert_eq!(coding(vec![b"gzip, chunked"]), Some(501));
        assert_eq!(coding(vec![b"chunked, chunked"]), Some(501));
        assert_eq!(coding(vec![b",chunked"]), Some(501));
        assert_eq!(coding(vec![b"chunked", b"chunked"]), Some(400));
    }

    #[test]
    fn only_one_expectation_is_known() {
        let expect = |fields| Request { expect: fields, ..get() }.check().err();
        assert_eq!(expect(vec![b"100-Continue"]), None);
        assert_eq!(expect(vec![b"a-miracle"]), Some(417));
    }
}
