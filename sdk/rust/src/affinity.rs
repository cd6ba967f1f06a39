//! How requests and connections say the key that leads them to a backend.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::error::Error;

/// The header, or gRPC metadata, that carries the key of a request. Backends do not see it.
pub const AFFINITY_HEADER: &str = "x-outrigger-affinity";

/// In bytes.
const MAX_KEY: usize = 256;
/// The kind of the TLV that carries the key of a connection.
const AFFINITY_TLV: u8 = 0xE0;

/// The value of [`AFFINITY_HEADER`] for a key: 1..=256 bytes that a header may have, without a space at
/// either end. Other keys are [`Error::Invalid`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use outrigger_sdk::{AFFINITY_HEADER, affinity_header};
/// let request = http::Request::get("http://127.0.0.1:8080/cart")
///     .header(AFFINITY_HEADER, affinity_header("user-42")?)
///     .body(())?;
/// # Ok(()) }
/// ```
pub fn affinity_header(key: &str) -> Result<HeaderValue, Error> {
    let wrong = || {
        let accepted = "what a header may have, without a space at either end";
        Error::invalid("key", format!("want {accepted}, got `{}`", key.escape_debug()))
    };
    check_length(key)?;
    if key.trim_matches([' ', '\t']) != key {
        return Err(wrong());
    }
    HeaderValue::from_bytes(key.as_bytes()).map_err(|_| wrong())
}

/// Has every call of a tonic client carry the same key: what its `with_interceptor` takes.
#[derive(Debug, Clone)]
pub struct AffinityInterceptor {
    value: MetadataValue<Ascii>,
}

impl AffinityInterceptor {
    /// [`Error::Invalid`] for keys that are not 1..=256 printable ASCII characters without a space at
    /// either end: no others may be metadata.
    pub fn new(key: &str) -> Result<Self, Error> {
        let wrong = || {
            let accepted = "printable ASCII characters without a space at either end";
            Error::invalid("key", format!("want {accepted}, got `{}`", key.escape_debug()))
        };
        affinity_header(key)?;
        if !key.is_ascii() {
            return Err(wrong());
        }
        Ok(Self { value: key.parse().map_err(|_| wrong())? })
    }
}

impl Interceptor for AffinityInterceptor {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(AFFINITY_HEADER, self.value.clone());
        Ok(request)
    }
}

/// What to send first on a connection to a TCP listener that has `proxy_protocol`, so that it goes where
/// its key leads: a header of the PROXY protocol, version 2, with the key in TLV 0xE0.
///
/// `source` and `destination` are the ends of the connection as the backends are to see them. Keys of
/// other than 1..=256 bytes are [`Error::Invalid`].
pub fn proxy_header(
    key: &str,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<Vec<u8>, Error> {
    check_length(key)?;
    let mut rest = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            [source.octets(), destination.octets()].concat()
        }
        (source, destination) => [mapped(source), mapped(destination)].concat(),
    };
    let family = if rest.len() == 8 { INET } else { INET6 };
    rest.extend(source.port().to_be_bytes());
    rest.extend(destination.port().to_be_bytes());
    rest.push(AFFINITY_TLV);
    rest.extend(length(key.len()));
    rest.extend(key.as_bytes());

    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([VERSION_2_PROXY, family | STREAM]);
    header.extend(length(rest.len()));
    header.extend(rest);
    Ok(header)
}

const VERSION_2_PROXY: u8 = 0x21;
const INET: u8 = 0x10;
const INET6: u8 = 0x20;
const STREAM: u8 = 0x01;

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Of what is known to be short.
fn length(bytes: usize) -> [u8; 2] {
    let [.., high, low] = bytes.to_be_bytes();
    [high, low]
}

fn check_length(key: &str) -> Result<(), Error> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        bytes => Err(Error::invalid("key", format!("want 1 to {MAX_KEY} bytes, got {bytes}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_header_may_have_are_refused() {
        assert_eq!(affinity_header("user 42").unwrap(), "user 42");
        assert_eq!(affinity_header("Zoë").unwrap().as_bytes(), "Zoë".as_bytes());
        for key in ["", " a", "a\t", "a\nb", "\0", &"k".repeat(257)] {
            let error = affinity_header(key).unwrap_err();
            let Error::Invalid { violations, .. } = error else { panic!("{key:?}: {error}") };
            assert_eq!(violations[0].field, "key");
        }
        let error = affinity_header(&"k".repeat(257)).unwrap_err();
        assert_eq!(error.to_string(), "key: want 1 to 256 bytes, got 257");
        assert!(AffinityInterceptor::new("Zoë").is_err());
    }

    #[test]
    fn a_header_of_the_proxy_protocol_is_as_its_specification_says() {
        let (v4, v6) = ("192.0.2.1:258", "[2001:db8::1]:443");
        let header = proxy_header("k7", v4.parse().unwrap(), v4.parse().unwrap()).unwrap();
        let addresses = [192, 0, 2, 1, 192, 0, 2, 1, 1, 2, 1, 2];
        let expected = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11"[..], &addresses, b"\xE0\0\x02k7"];
        assert_eq!(header, expected.concat());
        let header = proxy_header("k", v4.parse().unwrap(), v6.parse().unwrap()).unwrap();
        assert_eq!(&header[12..16], b"\x21\x21\0\x28");
        assert_eq!(&header[26..32], [0xff, 0xff, 192, 0, 2, 1]);
        assert!(proxy_header("", v4.parse().unwrap(), v4.parse().unwrap()).is_err());
    }
}
