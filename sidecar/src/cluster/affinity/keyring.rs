//! The secrets behind affinity cookies: what signs them, and what backends are called in them.
//!
//! There are two keys at most, so that a secret can be replaced while cookies of the old one are
//! still around: the first signs, both verify. To rotate, put the new secret second everywhere,
//! then first everywhere, then take the old one away.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Secrets in use at a time.
pub const MAX_KEYS: usize = 2;
/// Bytes of a secret. Less might be guessed from a single cookie.
pub const MIN_SECRET: usize = 32;
/// Bytes of the text that holds the secrets.
pub const MAX_TEXT: usize = 4096;

const ACCEPTS: &str =
    "one or two lines, each a secret of at least 32 printable ASCII characters; `#` comments";

/// One key serves several ends, and nothing made for one may pass for another.
#[derive(Clone, Copy)]
pub(super) enum Use {
    KeyId = 1,
    Tag = 2,
    Token = 3,
}

/// The secrets that sign and verify the cookies of every cluster.
pub struct Keyring {
    signing: Key,
    previous: Option<Key>,
}

/// Why a text holds no secrets. The secrets themselves are never quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadSecret {
    /// Counted from 1; `None` if it is the text as a whole.
    pub line: Option<usize>,
    pub message: String,
}

/// What a backend is called in cookies: one number for each key. They say nothing about its
/// address, not even to someone who guesses it, and are the same wherever the secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tags([u64; MAX_KEYS]);

impl Keyring {
    /// From the lines of a text: the secret that signs, then perhaps another that still verifies.
    /// A secret is the bytes of its line without the white space around it; blank lines and those
    /// that start with `#` are left out.
    pub fn parse(text: &[u8]) -> Result<Self, BadSecret> {
        let bad = |line, message| BadSecret { line, message };
        if text.len() > MAX_TEXT {
            let message = format!("is longer than {MAX_TEXT} bytes; accepted: {ACCEPTS}");
            return Err(bad(None, message));
        }
        let mut secrets: Vec<&[u8]> = Vec::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let secret = line.trim_ascii();
            if secret.is_empty() || secret.starts_with(b"#") {
                continue;
            }
            check(secret, &secrets)
                .map_err(|what| bad(Some(number), format!("{what}; accepted: {ACCEPTS}")))?;
            secrets.push(secret);
        }
        match secrets.as_slice() {
            [] => Err(bad(None, format!("holds no secret; accepted: {ACCEPTS}"))),
            [signing, rest @ ..] => Ok(Self {
                signing: Key::new(signing)?,
                previous: rest.first().map(|secret| Key::new(secret)).transpose()?,
            }),
        }
    }

    /// What the backend of that name is called in the cookies of its cluster.
    pub fn tags(&self, cluster: &str, backend: &str) -> Tags {
        let mut tags = Tags([0; MAX_KEYS]);
        for (key, tag) in self.keys().zip(&mut tags.0) {
            *tag = key.tag(cluster, backend);
        }
        tags
    }

    /// By their numbers: the one that signs is 0.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.signing).chain(&self.previous)
    }

    pub(super) fn signing(&self) -> &Key {
        &self.signing
    }
}

impl Tags {
    /// What new cookies call the backend.
    pub fn signing(&self) -> u64 {
        self.0[0]
    }

    /// What cookies of each key call it, by the number of the key (see `Verified::key`); the place
    /// of a key that is not there holds 0.
    pub fn all(self) -> impl Iterator<Item = u64> {
        self.0.into_iter().filter(|tag| *tag != 0)
    }
}

impl fmt::Debug for Keyring {
    /// Without the secrets, which must not end up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys().map(|key| format!("{:08x}", key.id))).finish()
    }
}

fn check(secret: &[u8], before: &[&[u8]]) -> Result<(), String> {
    if !secret.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("has a character that is not printable ASCII".into());
    }
    if secret.len() < MIN_SECRET {
        return Err(format!("has a secret of {} characters", secret.len()));
    }
    if before.len() == MAX_KEYS {
        return Err("has a third secret".into());
    }
    if before.contains(&secret) {
        return Err("has the same secret again".into());
    }
    Ok(())
}

/// One secret, as the state of an HMAC that has taken it in.
pub(super) struct Key {
    /// Says in a cookie which secret signed it, and nothing else about the secret.
    pub(super) id: u32,
    mac: Hmac<Sha256>,
}

impl Key {
    fn new(secret: &[u8]) -> Result<Self, BadSecret> {
        let mac = Hmac::new_from_slice(secret)
            .map_err(|e| BadSecret { line: None, message: e.to_string() })?;
        let mut key = Self { id: 0, mac };
        key.id = (first_half(key.begin(Use::KeyId, "")) >> 96) as u32;
        Ok(key)
    }

    /// An HMAC that is about to take in something of `cluster`. The name's length goes first, so
    /// that no other name and what follows it read the same.
    pub(super) fn begin(&self, end: Use, cluster: &str) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(&[end as u8]);
        mac.update(&(cluster.len() as u64).to_be_bytes());
        mac.update(cluster.as_bytes());
        mac
    }

    fn tag(&self, cluster: &str, backend: &str) -> u64 {
        let mut mac = self.begin(Use::Tag, cluster);
        mac.update(backend.as_bytes());
        (first_half(mac) >> 64) as u64
    }
}

/// Half of an HMAC-SHA256 is as much as cannot be guessed (RFC 2104, section 5).
pub(super) fn first_half(mac: Hmac<Sha256>) -> u128 {
    let bytes = mac.finalize().into_bytes();
    bytes.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "an old secret, that is long enough";
    const NEW: &str = "a new secret, that is as long as that";

    fn keyring(text: &str) -> Keyring {
        Keyring::parse(text.as_bytes()).unwrap()
    }

    fn refused(text: &[u8]) -> (Option<usize>, String) {
        let BadSecret { line, message } = Keyring::parse(text).unwrap_err();
        (line, message.split(';').next().unwrap().to_owned())
    }

    #[test]
    fn secrets_are_the_lines_without_comments_and_white_space() {
        let plain = keyring(&format!("{NEW}\n{OLD}"));
        let dressed = keyring(&format!("# today's\r\n\r\n  {NEW}\t\r\n# before\n\n{OLD}\n\n"));
        assert_eq!(dressed.tags("api", "b"), plain.tags("api", "b"));
        assert_eq!(format!("{dressed:?}"), format!("{plain:?}"));
        assert_eq!(plain.keys().count(), 2);
        assert_eq!(keyring(NEW).keys().count(), 1);
    }

    #[test]
    fn what_is_no_secret_is_refused_with_its_line() {
        let third = format!("{NEW}\n{OLD}\n# and\n{NEW}!");
        let twice = format!("{NEW}\n\n{NEW}");
        let cases: [(&[u8], _, _); 8] = [
            (b"", None, "holds no secret"),
            (b"# nothing\n\n", None, "holds no secret"),
            (&[b'a'; MAX_TEXT + 1], None, "is longer than 4096 bytes"),
            (b"\n0123456789abcdef0123456789abcde", Some(2), "has a secret of 31 characters"),
            (third.as_bytes(), Some(4), "has a third secret"),
            (twice.as_bytes(), Some(3), "has the same secret again"),
            (&[0xEF; 40], Some(1), "has a character that is not printable ASCII"),
            (&[0; 40], Some(1), "has a character that is not printable ASCII"),
        ];
        for (text, line, message) in cases {
            assert_eq!(refused(text), (line, message.to_owned()));
        }
        assert!(Keyring::parse(&[b'a'; MIN_SECRET]).is_ok());
        assert!(Keyring::parse(&[b'a'; MAX_TEXT]).is_ok());
    }

    #[test]
    fn messages_and_debug_output_hold_no_secret() {
        let error = Keyring::parse(b"short but secret").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("short"));
        assert!(!format!("{:?}", keyring(NEW)).contains("secret"));
    }

    #[test]
    fn tags_depend_on_the_secret_the_cluster_and_the_backend_alone() {
        let tags = keyring(NEW).tags("api", "10.0.0.1:80");
        assert_eq!(keyring(NEW).tags("api", "10.0.0.1:80"), tags);
        let others = [
            keyring(OLD).tags("api", "10.0.0.1:80"),
            keyring(NEW).tags("apj", "10.0.0.1:80"),
            keyring(NEW).tags("api", "10.0.0.1:81"),
            // Names that run together to the same text.
            keyring(NEW).tags("api1", "0.0.0.1:80"),
        ];
        for other in others {
            assert_ne!(other.signing(), tags.signing());
        }
    }

    #[test]
    fn rotation_keeps_the_tags_of_both_secrets() {
        let (old, new) = (keyring(OLD).tags("api", "b"), keyring(NEW).tags("api", "b"));
        let both = keyring(&format!("{NEW}\n{OLD}")).tags("api", "b");
        assert!(both.all().eq([new.signing(), old.signing()]));
    }
}
