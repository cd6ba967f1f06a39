//! The first message of a TLS handshake: whatever the bytes, there is no panic, and one verdict
//! however they are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::net::tls::hello::{Hello, NoHello, Reader};

fuzz_target!(|bytes: &[u8]| {
    let whole = fed(bytes.chunks(bytes.len().max(1)));
    assert_eq!(fed(bytes.chunks(1)), whole);
    assert_eq!(fed(bytes.chunks(7)), whole);
    if let Ok(Some(hello)) = whole {
        // A name is one that a route can have; the protocols are as long as they may be.
        let plain = |name: &String| !name.is_empty() && name.is_ascii();
        assert!(hello.sni.as_ref().is_none_or(plain), "{hello:?}");
        assert!(hello.alpn.iter().all(|name| (1..=255).contains(&name.len())), "{hello:?}");
    }
});

fn fed<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Result<Option<Hello>, NoHello> {
    let mut reader = Reader::default();
    for piece in pieces {
        if let Some(hello) = reader.feed(piece)? {
            return Ok(Some(hello));
        }
    }
    Ok(None)
}
