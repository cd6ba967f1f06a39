//! The binary header.

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TCP4: u8 = 0x11;
/// 127.0.0.1:42 to 127.0.0.1:1337, as in HAProxy's tests of TLVs.
const INET: &[u8] = b"\x7f\0\0\x01\x7f\0\0\x01\x00\x2a\x05\x39";

/// A header that has the length of what follows.
fn bytes(command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    with_len(parts.concat().len(), command, family, parts)
}

fn with_len(len: usize, command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = u16::try_from(len).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, &parts.concat()].concat()
}

fn tcp4(tlvs: &[u8]) -> Vec<u8> {
    bytes(0x21, TCP4, &[INET, tlvs])
}

/// With the checksum put in where the value of the TLV at that offset is.
fn with_checksum(mut header: Vec<u8>, at: usize) -> Vec<u8> {
    header[at..at + 4].fill(0);
    let crc = crc32c::crc32c(&header).to_be_bytes();
    header[at..at + 4].copy_from_slice(&crc);
    header
}

#[test]
fn each_family_has_its_addresses_and_transport() {
    use Transport::{Datagram, Stream};
    let inet = Some(between("127.0.0.1:42", "127.0.0.1:1337"));
    let inet6 = Some(between("[2001:db8::1]:56324", "[2001:db8:7::2]:443"));
    let v6 = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
        \x20\x01\x0d\xb8\0\x07\0\0\0\0\0\0\0\0\0\x02\xdc\x04\x01\xbb";
    for (family, block, addresses, transport) in [
        (0x00, &b""[..], None, None),
        (0x11, INET, inet, Some(Stream)),
        (0x12, INET, inet, Some(Datagram)),
        (0x21, v6, inet6, Some(Stream)),
        (0x22, v6, inet6, Some(Datagram)),
        (0x31, &[b'/'; 216], None, Some(Stream)),
        (0x32, &[0; 216], None, Some(Datagram)),
    ] {
        let plain = header(&bytes(0x21, family, &[block]));
        let expected = Header { addresses, transport, ..Header::default() };
        assert_eq!(plain, expected, "{family:#x}");

        let more = header(&bytes(0x21, family, &[block, b"\xe1\0\x03foo"]));
        assert_eq!((more.addresses, more.transport), (addresses, transport));
        assert_eq!(more.tlv(0xe1), Some(&b"foo"[..]));

        if let Some((_, short)) = block.split_last() {
            let short = with_len(short.len(), 0x21, family, &[]);
            assert_eq!(refused(&short), Malformed::Short(16 + block.len() - 1));
        }
    }
}

#[test]
fn local_skips_all_that_follows() {
    for (family, rest) in [
        (0x00, &b""[..]),
        (0x11, INET),
        (0x11, b"not even an address"),
        (0xff, b"\x03\0\x04bad!"),
        (0x00, b"\x02\xff\xff"),
        (0x00, &[0; 4080]),
    ] {
        assert_eq!(header(&bytes(0x20, family, &[rest])), Header::default());
    }
    assert_eq!(refused(&with_len(4081, 0x20, 0, &[])), Malformed::Long(4097));
}

#[test]
fn other_versions_commands_and_families_are_refused_at_their_byte() {
    for version in (0..=0xf).filter(|version| *version != 2) {
        for command in [0, 1] {
            let beginning = [SIGNATURE, &[version << 4 | command]].concat();
            assert_eq!(refused(&beginning), Malformed::Version(version));
        }
    }
    for command in 2..=0xf {
        let beginning = [SIGNATURE, &[0x20 | command]].concat();
        assert_eq!(refused(&beginning), Malformed::Command(command));
    }
    let known = [0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32];
    for family in (0..=0xff).filter(|family| !known.contains(family)) {
        let beginning = [SIGNATURE, &[0x21, family]].concat();
        assert_eq!(refused(&beginning), Malformed::Family(family));
    }
}

#[test]
fn a_header_has_4096_bytes_at_most() {
    let room = MAX_LEN - 16 - INET.len() - 3;
    let [high, low] = u16::try_from(room).unwrap().to_be_bytes();
    let longest = tcp4(&[&[0xe0, high, low], &vec![7; room][..]].concat());
    assert_eq!(longest.len(), MAX_LEN);
    assert_eq!(header(&longest).tlv(0xe0), Some(&vec![7; room][..]));
    assert_eq!(refused(&with_len(4081, 0x21, TCP4, &[])), Malformed::Long(4097));
    assert_eq!(refused(&with_len(0xffff, 0x21, TCP4, &[])), Malformed::Long(16 + 0xffff));
}

#[test]
fn tlvs_are_found_by_their_kind() {
    let tlvs = b"\x04\0\0\x02\0\x0bexample.com\x04\0\x02xx\xe0\0\x01a\xe0\0\x01b\xef\0\0";
    let header = header(&tcp4(tlvs));
    assert_eq!(header.tlv(AUTHORITY), Some(&b"example.com"[..]));
    assert_eq!(header.tlv(0xe0), Some(&b"a"[..]));
    assert_eq!(header.tlv(0xef), Some(&b""[..]));
    assert_eq!(header.tlv(0xe1), None);
    let kinds: Vec<u8> = header.tlvs().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [0x04, 0x02, 0x04, 0xe0, 0xe0, 0xef]);
}

/// `proxy_protocol_tlv_validation.vtc` of HAProxy.
#[test]
fn tlvs_end_where_the_header_does() {
    assert_eq!(header(&tcp4(b"\x02\0\x0512345")).tlv(AUTHORITY), Some(&b"12345"[..]));
    // A TLV after the end is no longer of the header.
    let (_, len) = parse(&tcp4(b"\x02\0\x0512345")).unwrap().unwrap();
    let longer = [tcp4(b"\x02\0\x0512345"), b"\x02\0\x0554321".to_vec()].concat();
    assert_eq!((parse(&longer).unwrap().unwrap().1, longer.len()), (len, len + 8));
    // One that is longer than the header, and one that leaves a byte.
    let longer = with_len(20, 0x21, TCP4, &[INET, b"\x02\0\x0a1234512345"]);
    assert_eq!(parse(&longer), Err(Malformed::Tlv));
    assert_eq!(refused(&with_len(20, 0x21, TCP4, &[INET, b"\x02\0\x041234x"])), Malformed::Tlv);
    for end in [&b"\x04"[..], b"\x04\0", b"\x04\0\x01", b"\x04\xff\xff", b"\x04\0\0\0"] {
        assert_eq!(refused(&tcp4(end)), Malformed::Tlv);
    }
    // Of an unspecified family nothing says how long the addresses would be, so there are none.
    assert_eq!(refused(&bytes(0x21, 0x00, &[INET])), Malformed::Tlv);
}

#[test]
fn a_checksum_is_verified() {
    let alone = with_checksum(tcp4(b"\x03\0\x04....\x02\0\x01a"), 31);
    assert_eq!(header(&alone).tlv(AUTHORITY), Some(&b"a"[..]));
    let last = with_checksum(tcp4(b"\x02\0\x01a\x03\0\x04...."), 35);
    assert_eq!(header(&last).tlv(CRC32C), Some(&last[35..]));
    let unix = with_checksum(bytes(0x21, 0x31, &[&[b'/'; 216], b"\x03\0\x04...."]), 16 + 216 + 3);
    assert_eq!(header(&unix).transport, Some(Transport::Stream));

    // Any bit of the addresses or of the checksum itself.
    for bit in (16 * 8..28 * 8).chain(31 * 8..35 * 8) {
        let mut wrong = alone.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(refused(&wrong), Malformed::Mismatch);
    }
    assert_eq!(refused(&tcp4(b"\x03\0\x04\0\0\0\0")), Malformed::Mismatch);
}

#[test]
fn a_checksum_has_four_bytes_and_is_alone() {
    for short in [&b"\x03\0\0"[..], b"\x03\0\x03...", b"\x03\0\x05....."] {
        assert_eq!(refused(&tcp4(short)), Malformed::Checksum);
    }
    // Even if the first one is right about a second that is not.
    let twice = with_checksum(tcp4(b"\x03\0\x04....\x03\0\x04...."), 31);
    assert_eq!(refused(&twice), Malformed::Checksum);
}

#[test]
fn a_tlv_without_room_is_left_out() {
    let large = vec![0; 3000];
    let tlvs = [
        Tlv { kind: 0xe0, value: &large },
        Tlv { kind: 0xe1, value: &large },
        Tlv { kind: 0xe2, value: &[0; 1 << 17] },
        Tlv { kind: CRC32C, value: b"" },
    ];
    let mut out = Vec::new();
    write_v2(&mut out, Transport::Datagram, Some(&mixed()), &tlvs);
    let kinds: Vec<u8> = header(&out).tlvs().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [0xe0, CRC32C]);
}
