//! The binary header (section 2.2).

use std::net::{IpAddr, SocketAddr};

use super::tlv::{self, CRC32C, Tlv};
use super::{Addresses, Header, MAX_LEN, Malformed, Transport, agrees};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, a byte for version and command, one for family and transport, and two for the
/// length of all that follows.
const FIXED: usize = 16;

/// A CRC32C.
const CHECKSUM_LEN: usize = 4;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// What kind of addresses the header has. The values are the upper half of their byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified = 0x00,
    Inet = 0x10,
    Inet6 = 0x20,
    Unix = 0x30,
}

impl Family {
    /// How many bytes the two addresses take, with their ports.
    fn len(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 2 * (4 + 2),
            Self::Inet6 => 2 * (16 + 2),
            Self::Unix => 2 * 108,
        }
    }
}

/// What the fixed part says.
struct Fixed {
    is_local: bool,
    family: Family,
    transport: Option<Transport>,
    /// Of the whole header.
    len: usize,
}

pub(super) fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(fixed) = parse_fixed(input)? else { return Ok(None) };
    let Some(bytes) = input.get(..fixed.len) else { return Ok(None) };
    // All of it is to be skipped, whatever it is: there are senders who have addresses here.
    let header = if fixed.is_local { Header::default() } else { relayed(&fixed, bytes)? };
    Ok(Some((header, fixed.len)))
}

/// Judges each byte as soon as it is there.
fn parse_fixed(input: &[u8]) -> Result<Option<Fixed>, Malformed> {
    if !agrees(input, SIGNATURE) {
        return Err(Malformed::Missing);
    }
    let Some(&byte) = input.get(12) else { return Ok(None) };
    let is_local = match byte {
        LOCAL => true,
        PROXY => false,
        _ if byte >> 4 == 2 => return Err(Malformed::Command(byte & 0x0f)),
        _ => return Err(Malformed::Version(byte >> 4)),
    };
    let Some(&byte) = input.get(13) else { return Ok(None) };
    let (family, transport) = match is_local {
        true => (Family::Unspecified, None),
        false => family_and_transport(byte)?,
    };
    let Some(&[high, low]) = input.get(14..).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    match len {
        _ if len < FIXED + family.len() => Err(Malformed::Short(len)),
        _ if len > MAX_LEN => Err(Malformed::Long(len)),
        _ => Ok(Some(Fixed { is_local, family, transport, len })),
    }
}

/// The combinations that there are. Of others it is not said how long the addresses would be.
fn family_and_transport(byte: u8) -> Result<(Family, Option<Transport>), Malformed> {
    match byte {
        0x00 => Ok((Family::Unspecified, None)),
        0x11 => Ok((Family::Inet, Some(Transport::Stream))),
        0x12 => Ok((Family::Inet, Some(Transport::Datagram))),
        0x21 => Ok((Family::Inet6, Some(Transport::Stream))),
        0x22 => Ok((Family::Inet6, Some(Transport::Datagram))),
        0x31 => Ok((Family::Unix, Some(Transport::Stream))),
        0x32 => Ok((Family::Unix, Some(Transport::Datagram))),
        _ => Err(Malformed::Family(byte)),
    }
}

/// What a whole header says of a connection that is relayed.
fn relayed(fixed: &Fixed, bytes: &[u8]) -> Result<Header, Malformed> {
    let (before, tlvs) = bytes.split_at(FIXED + fixed.family.len());
    check_tlvs(bytes, tlvs)?;
    let addresses = match fixed.family {
        Family::Inet => addresses::<4>(&before[FIXED..]),
        Family::Inet6 => addresses::<16>(&before[FIXED..]),
        Family::Unspecified | Family::Unix => None,
    };
    Ok(Header { addresses, transport: fixed.transport, tlvs: tlvs.into() })
}

/// Both addresses come first, then both ports.
fn addresses<const N: usize>(bytes: &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (&source, rest) = bytes.split_first_chunk::<N>()?;
    let (&destination, rest) = rest.split_first_chunk::<N>()?;
    let (&source_port, rest) = rest.split_first_chunk()?;
    let (&destination_port, _) = rest.split_first_chunk()?;
    let address = |ip, port| SocketAddr::new(IpAddr::from(ip), u16::from_be_bytes(port));
    Some(Addresses {
        source: address(source, source_port),
        destination: address(destination, destination_port),
    })
}

/// That the header ends with its last TLV, and matches the checksum if there is one.
fn check_tlvs(header: &[u8], tlvs: &[u8]) -> Result<(), Malformed> {
    let mut end = header.len() - tlvs.len();
    let mut is_checked = false;
    for tlv in tlv::split(tlvs) {
        let tlv = tlv?;
        end += tlv.len();
        if tlv.kind != CRC32C {
            continue;
        }
        if is_checked || tlv.value.len() != CHECKSUM_LEN {
            return Err(Malformed::Checksum);
        }
        if tlv.value != checksum(header, end - CHECKSUM_LEN) {
            return Err(Malformed::Mismatch);
        }
        is_checked = true;
    }
    Ok(())
}

/// The checksum of a header that has it at this offset: computed as if it were 0 there, and written
/// in the order of the network (section 2.2.3).
fn checksum(header: &[u8], at: usize) -> [u8; CHECKSUM_LEN] {
    let (before, rest) = header.split_at(at);
    let crc = crc32c::crc32c(before);
    let crc = crc32c::crc32c_append(crc, &[0; CHECKSUM_LEN]);
    crc32c::crc32c_append(crc, &rest[CHECKSUM_LEN..]).to_be_bytes()
}

/// Appends a header for a connection with these addresses or, without them, for one of the sender's
/// own (`LOCAL`).
///
/// One of the TLVs may be a [`CRC32C`], whose value is computed, whatever it says. TLVs that would
/// make the header longer than [`MAX_LEN`] are left out.
pub fn write(
    out: &mut Vec<u8>,
    transport: Transport,
    addresses: Option<&Addresses>,
    tlvs: &[Tlv<'_>],
) {
    let start = out.len();
    out.extend_from_slice(SIGNATURE);
    write_addresses(out, transport, addresses);
    let checksum_at = write_tlvs(out, start, tlvs);

    let header = &mut out[start..];
    let [.., high, low] = (header.len() - FIXED).to_be_bytes();
    header[FIXED - 2..FIXED].copy_from_slice(&[high, low]);
    if let Some(at) = checksum_at {
        let value = checksum(header, at);
        header[at..at + CHECKSUM_LEN].copy_from_slice(&value);
    }
}

/// All from the command on, with room for the length.
fn write_addresses(out: &mut Vec<u8>, transport: Transport, addresses: Option<&Addresses>) {
    let Some(addresses) = addresses else {
        out.extend_from_slice(&[LOCAL, Family::Unspecified as u8, 0, 0]);
        return;
    };
    let Addresses { source, destination } = addresses.of_one_family();
    let family = if source.is_ipv4() { Family::Inet } else { Family::Inet6 };
    out.extend_from_slice(&[PROXY, family as u8 | transport as u8, 0, 0]);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    for address in [source, destination] {
        out.extend_from_slice(&address.port().to_be_bytes());
    }
}

/// Where the header that begins at `start` has room for its checksum, if it is to have one.
fn write_tlvs(out: &mut Vec<u8>, start: usize, tlvs: &[Tlv<'_>]) -> Option<usize> {
    let mut checksum_at = None;
    for &tlv in tlvs {
        let is_checksum = tlv.kind == CRC32C;
        let tlv = if is_checksum { Tlv { value: &[0; CHECKSUM_LEN], ..tlv } } else { tlv };
        let end = out.len() - start + tlv.len();
        if end > MAX_LEN {
            continue;
        }
        tlv.write(out);
        if is_checksum {
            checksum_at = Some(end - CHECKSUM_LEN);
        }
    }
    checksum_at
}
