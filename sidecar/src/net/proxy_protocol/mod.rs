//! The PROXY protocol: a header before the first byte of a connection, or in front of a datagram,
//! by which a proxy says on whose behalf it speaks.
//!
//! Version 1 is a line of text, version 2 is binary, and their first byte tells them apart. Both
//! are held to HAProxy's `proxy-protocol.txt` of 2026, to which the sections here refer. What begins
//! like neither is refused at the byte that shows it: where the header is required there is no
//! guess, since whoever may leave it out, or send it unasked, chooses the address that it has.
//!
//! Bytes only. Who may send a header, and how long to wait for it, is the business of listeners.

#[cfg(test)]
mod tests;
mod tlv;
mod v1;
mod v2;

use std::net::{IpAddr, SocketAddr};

pub use tlv::{AFFINITY, AUTHORITY, CRC32C, Tlv};
pub use v1::write as write_v1;
pub use v2::write as write_v2;

/// No header is longer, in bytes. The length of version 2 allows for 64 KiB, but a header is meant
/// to fit into one segment; this leaves room for a certificate among the TLVs.
pub const MAX_LEN: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// `None` if the sender speaks for itself (`LOCAL`), does not know, or relays a unix socket:
    /// the connection's own addresses count then.
    pub addresses: Option<Addresses>,
    /// `None` if the header does not say, as with `LOCAL` and `UNKNOWN`.
    pub transport: Option<Transport>,
    /// Found to be whole when the header was parsed.
    tlvs: Box<[u8]>,
}

/// The ends of the relayed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// How the relayed connection carries its bytes. The values are those of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Stream = 1,
    Datagram = 2,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the PROXY header is missing: neither version begins like this")]
    Missing,
    #[error("the PROXY line is for neither TCP4, TCP6 nor UNKNOWN")]
    Protocol,
    #[error("the PROXY line has no CRLF in its first {} bytes", v1::MAX_LEN)]
    Line,
    #[error("the PROXY line must have two addresses and two ports, with one space before each")]
    Fields,
    #[error("the PROXY line has an address that is not of its family, or not in canonical form")]
    Address,
    #[error("the PROXY line has a port that is not 0..=65535, or has leading zeros")]
    Port,
    #[error("the PROXY header has version {0}, want 2")]
    Version(u8),
    #[error("the PROXY header has the unknown command {0}")]
    Command(u8),
    #[error("the PROXY header has the unknown family and transport {0:#04x}")]
    Family(u8),
    #[error("the PROXY header has {0} bytes, fewer than its addresses need")]
    Short(usize),
    #[error("the PROXY header has {0} bytes, more than {MAX_LEN}")]
    Long(usize),
    #[error("the PROXY header ends within a TLV")]
    Tlv,
    #[error("the PROXY header must have one checksum of 4 bytes, or none")]
    Checksum,
    #[error("the PROXY header does not match its checksum")]
    Mismatch,
}

/// The header that `input` begins with, and its length in bytes; `None` if more are needed.
///
/// The verdict is final: more bytes change neither a header nor a refusal. Of an input as long as
/// [`MAX_LEN`] there always is one.
pub fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    match input.first() {
        None => Ok(None),
        Some(b'P') => v1::parse(input),
        Some(_) => v2::parse(input),
    }
}

impl Header {
    /// The value of the first TLV of that kind.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// All TLVs in their order; those of `LOCAL` are skipped with the rest of it.
    pub fn tlvs(&self) -> impl Iterator<Item = Tlv<'_>> {
        tlv::split(&self.tlvs).map_while(Result::ok)
    }
}

impl Addresses {
    /// The same as a header can say it: of an IPv4 and an IPv6 address the former is mapped.
    fn of_one_family(self) -> Self {
        if self.source.is_ipv4() == self.destination.is_ipv4() {
            return self;
        }
        Self { source: mapped(self.source), destination: mapped(self.destination) }
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Whether `input` begins like `expected` as far as it goes.
fn agrees(input: &[u8], expected: &[u8]) -> bool {
    input.iter().zip(expected).all(|(byte, expected)| byte == expected)
}
