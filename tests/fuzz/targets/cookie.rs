//! Affinity cookies: taken out of `Cookie` fields they are gone and the others are whole, and a
//! token counts only as it was signed.
//!
//! The first 18 bytes make a token and say how it is spoilt: tag, expiry, and where which bits are
//! flipped. The rest are fields, a line each; `@` in them stands for the token.

#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_fuzz::cluster::affinity::keyring::Keyring;
use outrigger_fuzz::cluster::affinity::token::{Invalid, Verified};
use outrigger_fuzz::proxy::http::cookie;

const NAME: &str = "LB_SESSION_api";
const OLD: &str = "an old secret, that is long enough";
const NEW: &str = "a new secret, that is as long as that";
const NOW: u64 = 1_800_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, text)) = bytes.split_first_chunk::<18>() else { return };
    let token = Token::new(seed);
    token.check();
    let text = text.split(|byte| *byte == b'@').collect::<Vec<_>>().join(&token.spoilt[..]);
    let fields: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    check_found(&fields, &token);
    fields.iter().for_each(|field| check_without(field));
});

fn keyring(secrets: &[&str]) -> Keyring {
    Keyring::parse(secrets.join("\n").as_bytes()).expect("secrets")
}

/// A token that the old secret has signed, and what became of it.
struct Token {
    means: Verified,
    signed: String,
    spoilt: Vec<u8>,
    keyring: Keyring,
}

impl Token {
    fn new(seed: &[u8; 18]) -> Self {
        let number = |at: usize| u64::from_be_bytes(seed[at..at + 8].try_into().expect("8 bytes"));
        let means = Verified { tag: number(0), key: 1, expires: number(8) };
        let signed = keyring(&[OLD]).sign("api", means.tag, means.expires);
        let mut spoilt = signed.clone().into_bytes();
        let at = usize::from(seed[16]) % spoilt.len();
        spoilt[at] ^= seed[17];
        Self { means, signed, spoilt, keyring: keyring(&[NEW, OLD]) }
    }

    fn check(&self) {
        self.check_verdict(self.signed.as_bytes());
        self.check_verdict(&self.spoilt);
        for cluster in ["", "ap", "apis", "web"] {
            let verdict = self.keyring.verify(cluster, self.signed.as_bytes(), NOW);
            assert_eq!(verdict, Err(Invalid::Forged));
        }
        let set = self.set_cookie();
        let value = set.split(|byte| *byte == b';').next();
        let read: Vec<&[u8]> = cookie::find(value.into_iter(), NAME.as_bytes()).collect();
        assert_eq!(read, [self.signed.as_bytes()]);
    }

    /// Nothing counts but the token, letter by letter.
    fn check_verdict(&self, text: &[u8]) {
        let over = (1..=NOW).contains(&self.means.expires);
        let expected = match text == self.signed.as_bytes() {
            true if over => Err(Invalid::Expired),
            true => Ok(self.means),
            false => Err(Invalid::Forged),
        };
        assert_eq!(self.keyring.verify("api", text, NOW), expected);
    }

    fn set_cookie(&self) -> Vec<u8> {
        let Verified { tag, expires, .. } = self.means;
        let mut out = b"before".to_vec();
        let max_age = (expires > 0).then_some(expires);
        cookie::set_cookie(&mut out, NAME, &self.signed, max_age, tag & 1 == 1);
        let mut expected = format!("before{NAME}={}; Path=/; HttpOnly; SameSite=Lax", self.signed);
        if expires > 0 {
            expected += &format!("; Max-Age={expires}");
        }
        if tag & 1 == 1 {
            expected += "; Secure";
        }
        assert_eq!(out, expected.as_bytes());
        out.drain(.."before".len());
        out
    }
}

/// All values are found, in their order, and judged without a fault.
fn check_found(fields: &[&[u8]], token: &Token) {
    let found: Vec<&[u8]> = cookie::find(fields.iter().copied(), NAME.as_bytes()).collect();
    let expected: Vec<&[u8]> =
        fields.iter().flat_map(|field| trimmed(field)).filter_map(ours).collect();
    assert_eq!(found, expected);
    found.iter().for_each(|value| token.check_verdict(value));
}

/// Ours are gone; the others are there, in their order and byte for byte.
fn check_without(field: &[u8]) {
    let mut out = b"before".to_vec();
    let any = cookie::without(&mut out, field, NAME.as_bytes());
    let left = out.strip_prefix(b"before").expect("what was there before");
    let others: Vec<&[u8]> =
        trimmed(field).into_iter().filter(|cookie| ours(cookie).is_none()).collect();
    assert_eq!(trimmed(left), others);
    assert_eq!((any, left.is_empty()), (!others.is_empty(), others.is_empty()));
    assert!(left.len() <= field.len() && left.trim_ascii() == left);
    assert_eq!(cookie::find([left].into_iter(), NAME.as_bytes()).count(), 0);

    let mut again = Vec::new();
    cookie::without(&mut again, left, NAME.as_bytes());
    assert_eq!(again, left);
}

/// The cookies of a field (RFC 6265, section 5.4), without the white space around them.
fn trimmed(field: &[u8]) -> Vec<&[u8]> {
    let cookies = field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    cookies.filter(|cookie| !cookie.is_empty()).collect()
}

/// The value, if it is a cookie of ours.
fn ours(cookie: &[u8]) -> Option<&[u8]> {
    let rest = cookie.strip_prefix(NAME.as_bytes())?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    match value {
        [b'"', inner @ .., b'"'] => Some(inner),
        _ => Some(value),
    }
}
