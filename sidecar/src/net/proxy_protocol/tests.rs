//! What holds for both versions.

mod haproxy;
mod v1;
mod v2;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const HTTP: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn between(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v4() -> Addresses {
    between("192.0.2.1:56324", "198.51.100.7:443")
}

fn v6() -> Addresses {
    between("[2001:db8::1]:56324", "[2001:db8:7::2]:443")
}

fn mixed() -> Addresses {
    between("192.0.2.1:56324", "[2001:db8:7::2]:443")
}

/// What `bytes` say, all of them: whatever follows, and of nothing less.
#[track_caller]
fn header(bytes: &[u8]) -> Header {
    let (header, len) = parse(bytes).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    assert_eq!(parse(&[bytes, HTTP].concat()), Ok(Some((header.clone(), len))));
    for end in 0..len {
        assert_eq!(parse(&bytes[..end]), Ok(None), "{:?}", bytes[..end].escape_ascii());
    }
    header
}

/// Why `bytes` are refused: at their last byte, and whatever follows.
#[track_caller]
fn refused(bytes: &[u8]) -> Malformed {
    let why = parse(bytes).unwrap_err();
    let (_, before) = bytes.split_last().unwrap();
    assert_eq!(parse(before), Ok(None));
    assert!(parse(&[bytes, HTTP].concat()).is_err());
    why
}

#[test]
fn what_begins_like_neither_version_is_refused_at_once() {
    for bytes in [&b"G"[..], b"\x16", b"\n", b"\0", b"\rG", b"\r\n\r\nG", b"PU", b"PRI"] {
        assert_eq!(refused(bytes), Malformed::Missing);
    }
    for bytes in [&b"p"[..], b" P", b"PROXYT", b"PROXY\r", b"\r\n\r\n\0\r\nQUIT\r"] {
        assert_eq!(parse(bytes), Err(Malformed::Missing));
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    let text = Malformed::Family(0x13).to_string();
    assert_eq!(text, "the PROXY header has the unknown family and transport 0x13");
    let text = Malformed::Line.to_string();
    assert_eq!(text, "the PROXY line has no CRLF in its first 107 bytes");
    let text = Malformed::Long(5000).to_string();
    assert_eq!(text, "the PROXY header has 5000 bytes, more than 4096");
}

#[test]
fn headers_are_appended() {
    let mut out = HTTP.to_vec();
    write_v1(&mut out, Some(&v4()));
    let line = out.split_off(HTTP.len());
    write_v2(&mut out, Transport::Stream, Some(&v4()), &[Tlv { kind: CRC32C, value: b"" }]);
    assert_eq!(header(&out.split_off(HTTP.len())).addresses, Some(v4()));
    assert_eq!((&out[..], header(&line).addresses), (HTTP, Some(v4())));
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    (any::<SocketAddr>(), any::<SocketAddr>())
        .prop_map(|(source, destination)| Addresses { source, destination }.on_the_wire())
}

impl Addresses {
    /// Scopes and flows of IPv6 are of no use to others, and no header has them.
    fn on_the_wire(self) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip(), address.port());
        Self { source: plain(self.source), destination: plain(self.destination) }
    }
}

/// A kind and a value, up to more than there is room for.
fn any_tlvs() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = any::<u8>().prop_filter("there may be one only", |kind| *kind != CRC32C);
    vec((kind, vec(any::<u8>(), 0..1500)), 0..6)
}

proptest! {
    #[test]
    fn lines_say_what_was_written(addresses in any_addresses()) {
        let mut line = Vec::new();
        write_v1(&mut line, Some(&addresses));
        let expected = Header {
            addresses: Some(addresses.of_one_family()),
            transport: Some(Transport::Stream),
            ..Header::default()
        };
        prop_assert_eq!(header(&line), expected);
    }

    #[test]
    fn binary_headers_say_what_was_written(
        addresses in any_addresses(),
        transport in prop_oneof![Just(Transport::Stream), Just(Transport::Datagram)],
        tlvs in any_tlvs(),
        checksum_at in proptest::option::of(0..7_usize),
    ) {
        let mut tlvs: Vec<_> = tlvs.iter().map(|(kind, value)| Tlv { kind: *kind, value }).collect();
        if let Some(at) = checksum_at {
            tlvs.insert(at.min(tlvs.len()), Tlv { kind: CRC32C, value: b"whatever" });
        }
        let mut bytes = Vec::new();
        write_v2(&mut bytes, transport, Some(&addresses), &tlvs);
        let header = header(&bytes);
        prop_assert_eq!(header.addresses, Some(addresses.of_one_family()));
        prop_assert_eq!(header.transport, Some(transport));

        prop_assert!(bytes.len() <= MAX_LEN);
        let room = MAX_LEN - bytes.len();
        let mut expected = tlvs.iter().peekable();
        for tlv in header.tlvs() {
            let same = |other: &&Tlv<'_>| match tlv.kind {
                CRC32C => other.kind == CRC32C,
                _ => tlv == **other,
            };
            while let Some(left_out) = expected.next_if(|other| !same(other)) {
                prop_assert!(left_out.len() > room);
            }
            prop_assert!(expected.next().is_some());
        }
        prop_assert!(expected.all(|left_out| left_out.len() > room));
    }
}
