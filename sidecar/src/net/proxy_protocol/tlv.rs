//! What version 2 adds to the addresses: a kind, a length of two bytes, and so many bytes
//! (section 2.2).

use super::Malformed;

/// The host name that the client asked for, as it does in TLS.
pub const AUTHORITY: u8 = 0x02;
/// A checksum of the whole header.
pub const CRC32C: u8 = 0x03;

/// The key by which the app has bound, or binds, what follows to a backend: ours.
pub const AFFINITY: u8 = 0xE0;

/// Kinds 0xE0 to 0xEF are free for applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    pub kind: u8,
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// How many bytes it takes, with its kind and length.
    pub(super) fn len(&self) -> usize {
        3 + self.value.len()
    }

    /// Appends it; the value must have a length of two bytes.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let [.., high, low] = self.value.len().to_be_bytes();
        out.extend_from_slice(&[self.kind, high, low]);
        out.extend_from_slice(self.value);
    }
}

/// The TLVs that `bytes` consist of; the last one is an error if they end within it.
pub(super) fn split(bytes: &[u8]) -> impl Iterator<Item = Result<Tlv<'_>, Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (tlv, after) = split_first(rest).unzip();
        rest = after.unwrap_or_default();
        Some(tlv.ok_or(Malformed::Tlv))
    })
}

fn split_first(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    Some((Tlv { kind, value }, rest))
}
