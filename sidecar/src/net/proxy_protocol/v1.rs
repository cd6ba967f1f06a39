//! The line of text (section 2.1).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Header, Malformed, Transport, agrees};

/// What the longest line takes that a sender may write, with its CRLF.
pub(super) const MAX_LEN: usize = 107;

const TCP4: &[u8] = b"PROXY TCP4 ";
const TCP6: &[u8] = b"PROXY TCP6 ";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// Addresses are not decoded before the line is whole: half a number is another number.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let input = &input[..input.len().min(MAX_LEN)];
    check_beginning(input)?;
    match memchr::memmem::find(input, b"\r\n") {
        Some(end) => Ok(Some((header(&input[..end])?, end + 2))),
        None => check_unfinished(input).map(|()| None),
    }
}

fn check_beginning(input: &[u8]) -> Result<(), Malformed> {
    match [TCP4, TCP6, UNKNOWN].iter().any(|beginning| agrees(input, beginning)) {
        true => Ok(()),
        false if agrees(input, b"PROXY ") => Err(Malformed::Protocol),
        false => Err(Malformed::Missing),
    }
}

/// Finds early that a line without its end will not become a header: because the end would come too
/// late, or by a byte that no address has.
fn check_unfinished(input: &[u8]) -> Result<(), Malformed> {
    let line = input.strip_suffix(b"\r").unwrap_or(input);
    if line.len() + 2 > MAX_LEN {
        return Err(Malformed::Line);
    }
    let fields = line.strip_prefix(TCP4).or_else(|| line.strip_prefix(TCP6)).unwrap_or_default();
    match fields.iter().all(|byte| byte.is_ascii_hexdigit() || b".: ".contains(byte)) {
        true => Ok(()),
        false => Err(Malformed::Fields),
    }
}

fn header(line: &[u8]) -> Result<Header, Malformed> {
    let addresses = if let Some(fields) = line.strip_prefix(TCP4) {
        addresses::<Ipv4Addr>(fields)?
    } else if let Some(fields) = line.strip_prefix(TCP6) {
        addresses::<Ipv6Addr>(fields)?
    } else {
        // Unknown, and whatever follows is to be ignored.
        return Ok(Header::default());
    };
    let transport = Some(Transport::Stream);
    Ok(Header { addresses: Some(addresses), transport, ..Header::default() })
}

fn addresses<A: FromStr + Into<IpAddr>>(fields: &[u8]) -> Result<Addresses, Malformed> {
    let fields = str::from_utf8(fields).map_err(|_| Malformed::Fields)?;
    let mut fields = fields.split(' ');
    let mut field = || fields.next().ok_or(Malformed::Fields);
    let (source, destination) = (address::<A>(field()?)?, address::<A>(field()?)?);
    let (source_port, destination_port) = (port(field()?)?, port(field()?)?);
    if fields.next().is_some() {
        return Err(Malformed::Fields);
    }
    Ok(Addresses {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<A>().map(Into::into).map_err(|_| Malformed::Address)
}

fn port(text: &str) -> Result<u16, Malformed> {
    // The parser takes a sign and leading zeros, which others might read as octal.
    let canonical = text == "0" || text.starts_with(|first| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| canonical).ok_or(Malformed::Port)
}

/// Appends a line with these addresses, or one that says they are unknown.
pub fn write(out: &mut Vec<u8>, addresses: Option<&Addresses>) {
    let Some(addresses) = addresses else {
        out.extend_from_slice(UNKNOWN);
        out.extend_from_slice(b"\r\n");
        return;
    };
    let Addresses { source, destination } = addresses.of_one_family();
    out.extend_from_slice(if source.is_ipv4() { TCP4 } else { TCP6 });
    let (from, to) = (source.ip(), destination.ip());
    // Writing to a vector cannot fail.
    let _ = write!(out, "{from} {to} {} {}\r\n", source.port(), destination.port());
}
