//! Targets and hosts that are served mean to the `http` crate what they mean to us, and hold
//! nothing that two servers could read in two ways.
//!
//! The first line is a method and a target, the second is a host.

#![no_main]

use http::Uri;
use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::intended::UNENCODED;
use outrigger_fuzz::proxy::http::canonical;
use outrigger_fuzz::proxy::http::h1::head::{MAX_TARGET, Progress, Request, RequestHead};
use outrigger_fuzz::proxy::http::h1::target::{self, Target, split_port};

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (line, host) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    with_request(line, host, |request| {
        let Ok(target) = target::check(&request) else { return };
        check_parts(&target);
        check_uri(&request, &target);
        if let Some(host) = target.host {
            check_host(host);
            check_again(&request, &target, host);
        }
        check_canonical(target.path);
    });
});

fn with_request(line: &[u8], host: &[u8], check: impl Fn(Request<'_>)) {
    let text = [line, b" HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
    let mut head = RequestHead::default();
    if let Ok(Some(_)) = head.parse(&text, &mut Progress::default()) {
        check(head.view());
    }
}

fn check_parts(target: &Target<'_>) {
    let Target { path, query, host } = *target;
    assert!(path == "*" || path.starts_with('/'), "{target:?}");
    assert!(!path.contains('?'), "{target:?}");
    assert!(query.is_empty() || query.starts_with('?'), "{target:?}");
    for part in [path, query, host.unwrap_or("a")] {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '#');
        assert!(part.chars().all(plain) && !part.contains("%00"), "{target:?}");
    }
}

fn check_uri(request: &Request<'_>, target: &Target<'_>) {
    let encoded = |text: &str| text.replace(UNENCODED, "_");
    let uri: Uri = encoded(request.target).parse().expect("a URI");
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    assert_eq!(query, encoded(target.query));
    match target.path {
        "*" => assert!(request.method == "OPTIONS" && matches!(uri.path(), "*" | "/")),
        path => assert_eq!(uri.path(), encoded(path)),
    }
    match uri.authority() {
        Some(authority) => assert_eq!(target.host, Some(authority.as_str())),
        None => assert!(request.target.starts_with(['/', '*'])),
    }
}

fn check_host(host: &str) {
    let authority: Authority = host.parse().expect("an authority");
    let (name, port) = split_port(host);
    assert!(!name.is_empty() && !host.contains(['@', '/', '?', ',']), "{host}");
    assert_eq!(authority.host(), name);
    match port {
        Some("") | None => assert_eq!(authority.port_u16(), None),
        Some(port) => assert_eq!(authority.port_u16(), port.parse().ok(), "{host}"),
    }
}

/// What was taken apart means the same when it is put together.
fn check_again(request: &Request<'_>, target: &Target<'_>, host: &str) {
    let path = if target.path == "*" { "" } else { target.path };
    let absolute = format!("http://{host}{path}{}", target.query);
    if absolute.len() > MAX_TARGET {
        return;
    }
    let line = format!("{} {absolute}", request.method);
    with_request(line.as_bytes(), host.as_bytes(), |again| {
        assert_eq!(target::check(&again), Ok(*target));
    });
}

fn check_canonical(path: &str) {
    let Some(path) = canonical(path) else { return };
    let path = path.as_ref();
    assert!(path == "*" || path.starts_with('/'), "{path}");
    let dots = path.to_ascii_lowercase().replace("%2e", ".");
    let dots = dots.split('/').any(|segment| matches!(segment, "." | ".."));
    assert!(!dots, "{path}");
    assert_eq!(canonical(path).as_deref(), Some(path));
}
