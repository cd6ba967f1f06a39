//! What a client says in the first message of a TLS handshake, read and not answered.
//!
//! rustls reads it, as it would to serve it: a handshake message in however many records, with every
//! length checked. What was read goes on to the backend as it came.

use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{Error, server::ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// A client says who it wants within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest first message that is read; those of today have some two thousand bytes.
const LONGEST: usize = 64 << 10;
const PIECE: usize = 4 << 10;

/// What a client says of itself in the first message of a TLS handshake.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name that it asks for (RFC 6066, section 3).
    pub sni: Option<String>,
    /// The protocols that it offers (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
}

/// There is no first message of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHello {
    /// The client has closed, or said nothing for too long.
    Silence,
    /// It speaks something else, or says too much.
    NotTls,
}

/// Reads it; with all the bytes that were read for that.
pub async fn read<R: AsyncRead + Unpin>(app: &mut R) -> Result<(Hello, Vec<u8>), NoHello> {
    timeout(PATIENCE, read_whole(app)).await.unwrap_or(Err(NoHello::Silence))
}

async fn read_whole<R: AsyncRead + Unpin>(app: &mut R) -> Result<(Hello, Vec<u8>), NoHello> {
    let (mut reader, mut seen) = (Reader::default(), Vec::with_capacity(PIECE));
    while seen.len() < LONGEST {
        let before = seen.len();
        match app.read_buf(&mut seen).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Err(NoHello::Silence),
        }
        if let Some(hello) = reader.feed(&seen[before..])? {
            return Ok((hello, seen));
        }
        seen.reserve(PIECE);
    }
    Err(NoHello::NotTls)
}

/// Reads it from bytes as they come.
#[derive(Default)]
pub struct Reader(Acceptor);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Takes in more bytes; nothing while there have to be more.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Hello>, NoHello> {
        while !bytes.is_empty() {
            match self.0.read_tls(&mut bytes) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(NoHello::NotTls),
            }
            match self.0.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Ok(Some(Hello::of(&accepted.client_hello()))),
                // A client of an older version: the backend may speak it.
                Err((Error::PeerIncompatible(_), _)) => return Ok(Some(Hello::default())),
                Err(_) => return Err(NoHello::NotTls),
            }
        }
        Ok(None)
    }
}

impl Hello {
    pub(super) fn of(hello: &ClientHello<'_>) -> Self {
        Self {
            sni: hello.server_name().map(Into::into),
            alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// The first message of a client, in one record.
    fn hello(name: &'static str, alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of so many bytes (RFC 8446, section 5.1).
    fn fragmented(record: &[u8], size: usize) -> Vec<u8> {
        let pieces = record[5..].chunks(size);
        let piece = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&record[..3], &length, piece].concat()
        };
        pieces.flat_map(piece).collect()
    }

    fn fed(bytes: &[u8], at_a_time: usize) -> Result<Option<Hello>, NoHello> {
        let mut reader = Reader::default();
        for piece in bytes.chunks(at_a_time) {
            if let Some(hello) = reader.feed(piece)? {
                return Ok(Some(hello));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_hello_says_the_same_however_it_comes() {
        let whole = hello("db.example.com", &["postgresql", "h2"]);
        let expected = Hello {
            sni: Some("db.example.com".into()),
            alpn: vec![b"postgresql".to_vec(), b"h2".to_vec()],
        };
        for at_a_time in [1, 7, 100, 10_000] {
            assert_eq!(fed(&whole, at_a_time), Ok(Some(expected.clone())));
            for size in [1, 50, 200] {
                let fragments = fragmented(&whole, size);
                assert_eq!(fed(&fragments, at_a_time), Ok(Some(expected.clone())), "{size}");
            }
        }
    }

    #[test]
    fn more_is_waited_for_until_it_is_whole() {
        let whole = hello("db.example.com", &[]);
        for length in 1..whole.len() {
            assert_eq!(fed(&whole[..length], 10_000), Ok(None), "{length}");
        }
    }

    #[test]
    fn an_address_is_no_name() {
        assert_eq!(fed(&hello("127.0.0.1", &[]), 10_000), Ok(Some(Hello::default())));
    }

    #[test]
    fn what_is_not_tls_is_found_out_at_once() {
        // The last is how PostgreSQL is asked whether it speaks TLS.
        let others: [&[u8]; 3] =
            [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f"];
        for bytes in others {
            assert_eq!(fed(bytes, 10_000), Err(NoHello::NotTls), "{bytes:?}");
        }
        let mut bad = hello("db.example.com", &[]);
        // Another message than a hello.
        bad[5] = 2;
        assert_eq!(fed(&bad, 10_000), Err(NoHello::NotTls));
    }
}
