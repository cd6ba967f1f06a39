//! The line of text.

use super::*;

#[track_caller]
fn assert_line(line: &str, addresses: Option<Addresses>) {
    let transport = addresses.map(|_| Transport::Stream);
    let expected = Header { addresses, transport, ..Header::default() };
    assert_eq!(header(line.as_bytes()), expected);
}

/// A line of this family with these fields is refused, and not before its end.
#[track_caller]
fn assert_refused(fields: &str, why: Malformed) {
    assert_eq!(refused(format!("PROXY {fields}\r\n").as_bytes()), why, "{fields}");
}

#[test]
fn a_line_says_who_is_connected_to_whom() {
    // The example of the specification.
    assert_line(
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        Some(between("192.168.0.1:56324", "192.168.0.11:443")),
    );
    assert_line(
        "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
        Some(between("255.255.255.255:65535", "0.0.0.0:0")),
    );
    assert_line(
        "PROXY TCP6 2001:DB8::a:1 ::ffff:192.0.2.1 1 2\r\n",
        Some(between("[2001:db8::a:1]:1", "[::ffff:192.0.2.1]:2")),
    );
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    assert_line(
        &format!("PROXY TCP6 {longest} {longest} 65535 65535\r\n"),
        Some(between(&format!("[{longest}]:65535"), &format!("[{longest}]:65535"))),
    );
}

#[test]
fn of_unknown_connections_nothing_else_counts() {
    assert_line("PROXY UNKNOWN\r\n", None);
    assert_line("PROXY UNKNOWN 192.0.2.1 198.51.100.7 56324 443\r\n", None);
    assert_eq!(header(b"PROXY UNKNOWN \xff\0\n\r \xc3\r\r\n"), Header::default());
    let longest = format!("PROXY UNKNOWN {:>91}\r\n", "");
    assert_eq!(longest.len(), 107);
    assert_line(&longest, None);
}

#[test]
fn a_line_ends_within_107_bytes() {
    // The last byte that could be the CR is not, so that the LF would come too late.
    let line = format!("PROXY UNKNOWN {:>92}", "");
    assert_eq!((refused(line.as_bytes()), line.len()), (Malformed::Line, 106));
    let line = format!("PROXY UNKNOWN {:>91}\r\r", "");
    assert_eq!((refused(line.as_bytes()), line.len()), (Malformed::Line, 107));
    let zeros = "0000:0000:0000:0000:0000:ffff:192.168.100.100";
    let line = format!("PROXY TCP6 {zeros} {zeros} 1 2\r\n");
    assert_eq!((parse(line.as_bytes()), line.len()), (Err(Malformed::Line), 107 + 1));
}

#[test]
fn a_line_ends_with_both_cr_and_lf() {
    for end in ["\n", "\rX", "\r\r", "\r "] {
        let line = format!("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443{end}");
        assert_eq!(refused(line.as_bytes()), Malformed::Fields, "{end:?}");
    }
}

#[test]
fn other_protocols_are_refused_at_once() {
    for line in
        ["PROXY  ", "PROXY tcp4", "PROXY TCP5", "PROXY UDP4", "PROXY TCP4\r", "PROXY UNKNOWS"]
    {
        assert_eq!(parse(line.as_bytes()), Err(Malformed::Protocol), "{line}");
    }
    assert_eq!(refused(b"PROXY TCP44"), Malformed::Protocol);
}

#[test]
fn fields_are_four_with_one_space_before_each() {
    for (fields, why) in [
        ("TCP4 ", Malformed::Address),
        ("TCP4 192.0.2.1", Malformed::Fields),
        ("TCP4 192.0.2.1 198.51.100.7", Malformed::Fields),
        ("TCP4 192.0.2.1 198.51.100.7 1", Malformed::Fields),
        ("TCP4 192.0.2.1 198.51.100.7 1 ", Malformed::Port),
        ("TCP4 192.0.2.1 198.51.100.7 1 2 ", Malformed::Fields),
        ("TCP4 192.0.2.1 198.51.100.7 1 2 3", Malformed::Fields),
        ("TCP4  192.0.2.1 198.51.100.7 1 2", Malformed::Address),
        ("TCP4 192.0.2.1  198.51.100.7 1 2", Malformed::Address),
        ("TCP4 192.0.2.1 198.51.100.7  1 2", Malformed::Port),
        ("TCP4 192.0.2.1 198.51.100.7 1  2", Malformed::Port),
    ] {
        assert_refused(fields, why);
    }
    assert_eq!(refused(b"PROXY TCP4 192.0.2.1\t"), Malformed::Fields);
    assert_eq!(refused(b"PROXY TCP4 \xc3"), Malformed::Fields);
}

#[test]
fn addresses_are_of_the_family_and_canonical() {
    let v4 = ["::1", "192.0.2", "192.0.2.1.1", "192.0.2.256", "192.0.2.01", "3221225985"];
    for address in v4 {
        assert_refused(&format!("TCP4 {address} 198.51.100.7 1 2"), Malformed::Address);
        assert_refused(&format!("TCP4 198.51.100.7 {address} 1 2"), Malformed::Address);
    }
    let v6 = [
        "192.0.2.1",
        ":",
        "1::2::3",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "00001::",
        "::256.0.2.1",
    ];
    for address in v6 {
        assert_refused(&format!("TCP6 {address} 2001:db8::1 1 2"), Malformed::Address);
        assert_refused(&format!("TCP6 2001:db8::1 {address} 1 2"), Malformed::Address);
    }
    // What no address has is seen before the line ends.
    for beginning in ["TCP4 0x", "TCP6 [", "TCP6 fe80::1%", "TCP6 2001:db8::g"] {
        assert_eq!(refused(format!("PROXY {beginning}").as_bytes()), Malformed::Fields);
    }
}

#[test]
fn ports_are_canonical() {
    for port in ["65536", "99999999999999999999", "01", "00", "080", "a", "1.", ""] {
        assert_refused(&format!("TCP4 192.0.2.1 198.51.100.7 {port} 443"), Malformed::Port);
        assert_refused(&format!("TCP4 192.0.2.1 198.51.100.7 443 {port}"), Malformed::Port);
    }
    for sign in ['+', '-'] {
        let line = format!("PROXY TCP4 192.0.2.1 198.51.100.7 {sign}");
        assert_eq!(refused(line.as_bytes()), Malformed::Fields);
    }
}
