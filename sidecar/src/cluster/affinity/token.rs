//! The text of an affinity cookie: `v1.<key id>.<expiry>.<backend tag>.<HMAC>`.
//!
//! Key id, tag and HMAC are lower-case hex of 32, 64 and 128 bits; the expiry is in decimal
//! seconds since the Unix epoch. The HMAC-SHA256, cut to its first half, covers the name of the
//! cluster and the text before it, as text: there is one way only to write a token, and the cookie
//! of one cluster is forged in another.
//!
//! An expiry of 0 means none, for cookies that end with the browser's session. A limit inside
//! would tear such a session away from its backend at a time that nobody configured, and would
//! prevent nothing: what a token is good for is one backend of several, and a new secret ends
//! every old token.

use std::fmt::Write;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::keyring::{Key, Keyring, Use, first_half};

/// Longer texts are refused without a look: a token has 82 bytes at most.
pub const MAX_TOKEN: usize = 256;

const VERSION: &str = "v1";

/// What a token says that one of our secrets has signed for this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Names the backend; see `Tags::of`.
    pub tag: u64,
    /// The number of the secret: 0 is the one that signs new tokens.
    pub key: usize,
    /// Seconds since the Unix epoch; 0: never.
    pub expires: u64,
}

/// Why a token counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Not a token, or none that we have signed for this cluster.
    Forged,
    /// Ours, but its time is over.
    Expired,
}

impl Keyring {
    /// A token for the backend of that tag ([`Tags::signing`](super::Tags::signing)), valid until
    /// `expires`, in seconds since the Unix epoch; 0: without end.
    pub fn sign(&self, cluster: &str, tag: u64, expires: u64) -> String {
        let key = self.signing();
        let mut text = String::with_capacity(82);
        // Writing to a string cannot fail.
        let _ = write!(text, "{VERSION}.{:08x}.{expires}.{tag:016x}", key.id);
        let mac = first_half(key.mac(cluster, &text));
        let _ = write!(text, ".{mac:032x}");
        text
    }

    /// What `text` says, if it is a token of this cluster that is valid `now`, in seconds since
    /// the Unix epoch.
    pub fn verify(&self, cluster: &str, text: &[u8], now: u64) -> Result<Verified, Invalid> {
        let parts = Parts::parse(text).ok_or(Invalid::Forged)?;
        let signed_by = |key: &Key| {
            key.id == parts.key_id
                // It takes the same time wherever the difference is.
                && key.mac(cluster, parts.signed).verify_truncated_left(&parts.mac).is_ok()
        };
        let key = self.keys().position(signed_by).ok_or(Invalid::Forged)?;
        match parts.expires {
            expires @ 1.. if expires <= now => Err(Invalid::Expired),
            expires => Ok(Verified { tag: parts.tag, key, expires }),
        }
    }
}

impl Key {
    fn mac(&self, cluster: &str, signed: &str) -> Hmac<Sha256> {
        let mut mac = self.begin(Use::Token, cluster);
        mac.update(signed.as_bytes());
        mac
    }
}

/// A text of the right form, which proves nothing yet.
struct Parts<'t> {
    /// All but the HMAC and the dot before it.
    signed: &'t str,
    key_id: u32,
    expires: u64,
    tag: u64,
    mac: [u8; 16],
}

impl<'t> Parts<'t> {
    fn parse(text: &'t [u8]) -> Option<Self> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let (signed, mac) = std::str::from_utf8(text).ok()?.rsplit_once('.')?;
        let mut parts = signed.split('.');
        let (VERSION, key_id, expires, tag, None) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next())
        else {
            return None;
        };
        Some(Self {
            signed,
            key_id: hex(key_id, 8)?.try_into().ok()?,
            expires: expires.parse().ok()?,
            tag: hex(tag, 16)?.try_into().ok()?,
            mac: hex(mac, 32)?.to_be_bytes(),
        })
    }
}

/// A number of so many lower-case hexadecimal digits, 32 at most.
fn hex(text: &str, digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.bytes().try_fold(0, |number, byte| match byte {
        b'0'..=b'9' => Some(number << 4 | u128::from(byte - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(byte - b'a' + 10)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "an old secret, that is long enough";
    const NEW: &str = "a new secret, that is as long as that";

    fn keyring(secrets: &[&str]) -> Keyring {
        Keyring::parse(secrets.join("\n").as_bytes()).unwrap()
    }

    /// Cookies are out there: if this fails, tokens need another version.
    #[test]
    fn the_form_of_tokens_and_tags_is_what_it_always_was() {
        let keyring = keyring(&["0123456789abcdef0123456789abcdef"]);
        let tag = keyring.tags("api", "10.0.0.1:80").signing();
        let tokens = [1_800_000_000, 0].map(|expires| keyring.sign("api", tag, expires));
        // Worked out by Python's `hmac`.
        let expected = [
            "v1.0d55b11c.1800000000.96b425d2fc4f0033.6d27af0acbbd5e7bef6ad9f9cf9423cd",
            "v1.0d55b11c.0.96b425d2fc4f0033.0c9fb0e2a52d09eec72b245b981ce4bb",
        ];
        assert_eq!(tokens, expected);
    }

    #[test]
    fn what_was_signed_is_verified() {
        let keyring = keyring(&[NEW]);
        for (tag, expires) in [(0, 0), (1, 1_001), (u64::MAX, u64::MAX)] {
            let token = keyring.sign("api", tag, expires);
            let verified = keyring.verify("api", token.as_bytes(), 1_000);
            assert_eq!(verified, Ok(Verified { tag, key: 0, expires }));
            assert!(token.len() <= 82, "{token}");
        }
    }

    #[test]
    fn a_token_with_any_byte_changed_added_or_missing_is_forged() {
        let keyring = keyring(&[NEW, OLD]);
        let token = keyring.sign("api", 0xABCD_EF01_2345_6789, 2_000).into_bytes();
        let forged = |text: &[u8]| {
            let text_shown = String::from_utf8_lossy(text);
            assert_eq!(keyring.verify("api", text, 1_000), Err(Invalid::Forged), "{text_shown}");
        };
        for at in 0..token.len() {
            for byte in (0..=255).filter(|byte| *byte != token[at]) {
                let mut changed = token.clone();
                changed[at] = byte;
                forged(&changed);
            }
            forged(&token[..at]);
            forged(&[&token[..at], &token[at + 1..]].concat());
            for byte in *b"0a.+ " {
                forged(&[&token[..at], &[byte], &token[at..]].concat());
            }
        }
        forged(&[&token[..], b"0"].concat());
        forged(&[&token[..], b"."].concat());
    }

    #[test]
    fn what_is_no_token_is_forged() {
        let keyring = keyring(&[NEW]);
        let long = [b"v1.", &[b'0'; 8 * 1024][..]].concat();
        let dots = [b'.'; MAX_TOKEN];
        let texts: [&[u8]; 7] =
            [b"", b".", b"....", b"v1....", &dots, &long, b"\xFF\xFE.\x80.\x80.\x80.\x80"];
        for text in texts {
            assert_eq!(keyring.verify("api", text, 0), Err(Invalid::Forged));
        }
    }

    #[test]
    fn the_token_of_another_cluster_or_secret_is_forged() {
        let token = keyring(&[NEW]).sign("api", 7, 0);
        let verify = |secret, cluster| keyring(&[secret]).verify(cluster, token.as_bytes(), 0);
        assert!(verify(NEW, "api").is_ok());
        for (secret, cluster) in [(NEW, "apj"), (NEW, ""), (NEW, "apiv"), (OLD, "api")] {
            assert_eq!(verify(secret, cluster), Err(Invalid::Forged), "{cluster}");
        }
    }

    #[test]
    fn a_token_is_expired_from_its_last_second_on_and_forged_before_that() {
        let keyring = keyring(&[NEW]);
        let token = keyring.sign("api", 7, 1_000);
        let verify = |cluster, now| keyring.verify(cluster, token.as_bytes(), now);
        assert!(verify("api", 0).is_ok());
        assert!(verify("api", 999).is_ok());
        assert_eq!(verify("api", 1_000), Err(Invalid::Expired));
        assert_eq!(verify("api", u64::MAX), Err(Invalid::Expired));
        assert_eq!(verify("web", u64::MAX), Err(Invalid::Forged));
        let endless = keyring.sign("api", 7, 0);
        assert!(keyring.verify("api", endless.as_bytes(), u64::MAX).is_ok());
    }

    /// The steps of a rotation: at each, sidecars before and after it understand each other.
    #[test]
    fn secrets_are_replaced_without_a_cookie_lost() {
        let steps = [&[OLD][..], &[OLD, NEW], &[NEW, OLD], &[NEW]].map(keyring);
        for (before, after) in steps.iter().zip(&steps[1..]) {
            for (one, other) in [(before, after), (after, before)] {
                let token = one.sign("api", one.tags("api", "b").signing(), 0);
                let verified = other.verify("api", token.as_bytes(), 0).unwrap();
                let tags = other.tags("api", "b");
                assert_eq!(tags.all().nth(verified.key), Some(verified.tag));
            }
        }
        let token = steps[0].sign("api", 1, 0);
        assert_eq!(steps[2].verify("api", token.as_bytes(), 0).unwrap().key, 1);
        assert_eq!(steps[3].verify("api", token.as_bytes(), 0), Err(Invalid::Forged));
    }
}
