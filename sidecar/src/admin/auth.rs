//! Who may see what.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

use crate::net::Address;
use crate::net::host::names_this_machine;

/// Pages that answer everywhere: orchestrators and Prometheus ask for them from other machines.
const PUBLIC: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Why a request for `path` is refused at this address.
pub(super) fn check(
    address: &Address,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    if PUBLIC.contains(&path) {
        return Ok(());
    }
    if !address.is_local() {
        return Err("off loopback only /livez, /readyz and /metrics answer");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match address {
        Address::Unix(_) => Ok(()),
        Address::Tcp(_) if names_this_machine(host) => Ok(()),
        Address::Tcp(_) => Err("the Host of the request must be localhost or a loopback address"),
    }
}

/// What an order needs beside that. No page of a browser can send this field to another origin
/// without asking first, and nobody answers that question.
pub(super) const ORDER: &str = "x-outrigger-admin";

/// Why an order with these fields is refused.
pub(super) fn check_order(headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.get(ORDER).is_none_or(|value| value != "1") {
        return Err("an order needs the field `X-Outrigger-Admin: 1`");
    }
    let own = |origin: &str| {
        let (_, authority) = origin.split_once("://").unwrap_or_default();
        names_this_machine(authority)
    };
    match headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(origin) if !own(origin) => Err("orders of pages of other sites are refused"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn allowed(address: &str, path: &str, host: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        check(&address.parse().unwrap(), path, &headers).is_ok()
    }

    #[test]
    fn off_loopback_only_the_public_pages_answer() {
        for path in PUBLIC {
            assert!(allowed("0.0.0.0:9910", path, "10.0.0.5:9910"));
        }
        assert!(!allowed("0.0.0.0:9910", "/api/v1/clusters", "localhost:9910"));
    }

    #[test]
    fn an_order_needs_its_field_and_no_other_sites_page() {
        let check = |fields: &[(&'static str, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            check_order(&fields.collect()).is_ok()
        };
        assert!(!check(&[]) && !check(&[(ORDER, "0")]));
        assert!(check(&[(ORDER, "1")]));
        assert!(check(&[(ORDER, "1"), ("origin", "http://127.0.0.1:9910")]));
        for site in ["https://evil.example", "http://localhost.evil.example", "null", ""] {
            assert!(!check(&[(ORDER, "1"), ("origin", site)]), "{site}");
        }
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_refused() {
        for host in ["localhost:9910", "127.0.0.1", "[::1]:9910", "127.9.9.9:1"] {
            assert!(allowed("127.0.0.1:9910", "/api/v1/clusters", host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1:9910", ""] {
            assert!(!allowed("127.0.0.1:9910", "/api/v1/clusters", host), "{host}");
        }
        assert!(allowed("unix:/run/admin.sock", "/api/v1/clusters", "whatever"));
    }
}
