//! PROXY headers: whatever the bytes, there is no panic, one verdict however they are cut, and the
//! same meaning when what was read is written again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::net::proxy_protocol::{
    Header, MAX_LEN, Tlv, Transport, parse, write_v1, write_v2,
};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let first = (0..=bytes.len()).find_map(|end| Some((end, parse(&bytes[..end]).transpose()?)));
    match first {
        // Nobody waits for more than this.
        None => assert!(whole == Ok(None) && bytes.len() < MAX_LEN),
        Some((end, Err(why))) => {
            assert!(whole.is_err() && end <= MAX_LEN);
            assert!(why.to_string().starts_with("the PROXY "));
        }
        Some((end, Ok((header, len)))) => {
            assert_eq!(len, end);
            check_written(&header);
            assert_eq!(whole, Ok(Some((header, len))));
        }
    }
});

/// Without addresses nothing remains but that the connection's own count.
fn check_written(header: &Header) {
    let tlvs: Vec<Tlv<'_>> = header.tlvs().collect();
    let transport = header.transport.unwrap_or(Transport::Stream);
    let mut binary = Vec::new();
    write_v2(&mut binary, transport, header.addresses.as_ref(), &tlvs);
    let expected = match header.addresses {
        Some(_) => header.clone(),
        None => Header::default(),
    };
    assert_eq!(parse(&binary), Ok(Some((expected, binary.len()))));

    let mut line = Vec::new();
    write_v1(&mut line, header.addresses.as_ref());
    let (read, len) = parse(&line).expect("a header").expect("all of it");
    assert_eq!((read.addresses, len), (header.addresses, line.len()));
}
