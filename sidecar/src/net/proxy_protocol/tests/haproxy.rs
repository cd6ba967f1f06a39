//! What HAProxy writes is understood, and is what we write.
//!
//! The headers are from HAProxy 2.6.12 (Debian 12), in `mode tcp`, as a server read them from its
//! socket. `tcp-request connection set-src` and its siblings gave the connections these addresses;
//! those without addresses came to a unix socket. The server had `send-proxy`, `send-proxy-v2`, or
//! `send-proxy-v2 proxy-v2-options crc32c`, and `,unique-id` with `unique-id-format fixture-%[src]`.

use super::*;

const UNIQUE_ID: u8 = 0x05;

#[track_caller]
fn assert_v1(line: &[u8], addresses: Option<Addresses>) {
    assert_eq!(header(line).addresses, addresses.map(Addresses::of_one_family));
    let mut ours = Vec::new();
    write_v1(&mut ours, addresses.as_ref());
    assert_eq!(ours.escape_ascii().to_string(), line.escape_ascii().to_string());
}

#[track_caller]
fn assert_v2(hex: &str, addresses: Option<Addresses>, tlvs: &[Tlv<'_>]) {
    let theirs = bytes(hex);
    let header = header(&theirs);
    assert_eq!(header.addresses, addresses.map(Addresses::of_one_family));
    assert_eq!(header.transport, addresses.map(|_| Transport::Stream));
    let mut ours = Vec::new();
    write_v2(&mut ours, Transport::Stream, addresses.as_ref(), tlvs);
    assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn crc() -> Tlv<'static> {
    Tlv { kind: CRC32C, value: b"" }
}

fn unique_id(value: &str) -> Tlv<'_> {
    Tlv { kind: UNIQUE_ID, value: value.as_bytes() }
}

#[test]
fn send_proxy() {
    assert_v1(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", Some(v4()));
    assert_v1(b"PROXY TCP6 2001:db8::1 2001:db8:7::2 56324 443\r\n", Some(v6()));
    assert_v1(b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8:7::2 56324 443\r\n", Some(mixed()));
    assert_v1(b"PROXY UNKNOWN\r\n", None);
}

#[test]
fn send_proxy_v2() {
    assert_v2("0d0a0d0a000d0a515549540a 21 11 000c c0000201 c6336407 dc04 01bb", Some(v4()), &[]);
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 21 0024 20010db8000000000000000000000001
            20010db8000700000000000000000002 dc04 01bb",
        Some(v6()),
        &[],
    );
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 21 0024 00000000000000000000ffffc0000201
            20010db8000700000000000000000002 dc04 01bb",
        Some(mixed()),
        &[],
    );
    assert_v2("0d0a0d0a000d0a515549540a 20 00 0000", None, &[]);
}

#[test]
fn send_proxy_v2_with_a_checksum() {
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 11 0013 c0000201 c6336407 dc04 01bb 03 0004 d45a11b9",
        Some(v4()),
        &[crc()],
    );
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 21 002b 20010db8000000000000000000000001
            20010db8000700000000000000000002 dc04 01bb 03 0004 043686c7",
        Some(v6()),
        &[crc()],
    );
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 21 002b 00000000000000000000ffffc0000201
            20010db8000700000000000000000002 dc04 01bb 03 0004 9db4ace2",
        Some(mixed()),
        &[crc()],
    );
    assert_v2("0d0a0d0a000d0a515549540a 20 00 0007 03 0004 a9b87e8f", None, &[crc()]);
}

#[test]
fn send_proxy_v2_with_a_checksum_and_a_unique_id() {
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 11 0027 c0000201 c6336407 dc04 01bb 03 0004 e639a243
            05 0011 666978747572652d3139322e302e322e31",
        Some(v4()),
        &[crc(), unique_id("fixture-192.0.2.1")],
    );
    assert_v2(
        "0d0a0d0a000d0a515549540a 21 21 0041 20010db8000000000000000000000001
            20010db8000700000000000000000002 dc04 01bb 03 0004 5d359ddf
            05 0013 666978747572652d323030313a6462383a3a31",
        Some(v6()),
        &[crc(), unique_id("fixture-2001:db8::1")],
    );
}
