//! The tokens that callers have to show, in a file that may have others tomorrow.
//!
//! Only their hashes are kept. The file is looked at rather than watched, and what has changed counts
//! with the second look that finds it so: whoever writes may not be done.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::caller::Role;
use crate::disk;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
const MAX_FILE: u64 = 64 << 10;
const MAX_TOKENS: usize = 128;
/// 32 characters are 128 bits or more, if they were drawn.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=256;

/// Why there are no tokens. Never says one.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", path.display(), line.map(|n| format!(":{n}")).unwrap_or_default())]
pub struct BadTokens {
    pub path: PathBuf,
    pub line: Option<usize>,
    pub message: String,
}

/// A token by its hash.
pub(super) type Hash = [u8; 32];

/// The tokens of a file.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    current: ArcSwap<Vec<(Hash, Role)>>,
}

impl Tokens {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, BadTokens> {
        Ok(Self { path: path.into(), current: ArcSwap::from_pointee(read(path)?) })
    }

    /// What whoever has this token may do. All tokens are compared, each in constant time.
    pub(super) fn role(&self, token: &[u8]) -> Option<(Hash, Role)> {
        let hash = hash(token);
        let known = self.current.load();
        let same = known.iter().filter(|(known, _)| bool::from(known.ct_eq(&hash)));
        same.copied().last()
    }

    /// Takes over what is new in the file, for as long as the sidecar runs.
    pub async fn follow(self: Arc<Self>) {
        let look = || disk::look(&self.path).ok();
        let (mut used, mut last) = (look(), look());
        loop {
            tokio::time::sleep(LOOK).await;
            let now = look();
            let settled = now == std::mem::replace(&mut last, now.clone());
            if now == used || !settled {
                continue;
            }
            match read(&self.path) {
                Ok(tokens) => {
                    tracing::info!(file = %self.path.display(), "new tokens are in use");
                    self.current.store(Arc::new(tokens));
                }
                Err(error) => tracing::error!(%error, "the old tokens stay in use"),
            }
            used = now;
        }
    }
}

fn hash(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

fn read(path: &Path) -> Result<Vec<(Hash, Role)>, BadTokens> {
    let failed = |line, message: String| BadTokens { path: path.into(), line, message };
    let cannot = |e: disk::Unreadable| failed(None, format!("cannot be read: {e}"));
    let (file, facts) = disk::open(path).map_err(cannot)?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(
            "{}: others on this machine may read the tokens (mode {mode:04o}); 0600 keeps them",
            path.display()
        );
    }
    let bytes = disk::read_from(file, MAX_FILE).map_err(cannot)?;
    let text = str::from_utf8(&bytes).map_err(|_| failed(None, "is not text".into()))?;
    let mut tokens: Vec<(Hash, Role)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (token, role) = parse(line).map_err(|message| failed(Some(number + 1), message))?;
        if tokens.iter().any(|(known, _)| *known == token) {
            return Err(failed(Some(number + 1), "has a token that is there already".into()));
        }
        tokens.push((token, role));
    }
    match tokens.len() {
        1..=MAX_TOKENS => Ok(tokens),
        count => Err(failed(None, format!("has {count} tokens; accepted: 1 to {MAX_TOKENS}"))),
    }
}

/// `TOKEN` or `ROLE TOKEN`.
fn parse(line: &str) -> Result<(Hash, Role), String> {
    let mut words = line.split_ascii_whitespace();
    let (role, token) = match (words.next(), words.next(), words.next()) {
        (Some(token), None, _) => (Role::Admin, token),
        (Some(role), Some(token), None) => {
            let accepted = "has no role; accepted: read, steer or admin, and then the token";
            (Role::named(role).ok_or(accepted)?, token)
        }
        _ => return Err("has more than a role and a token".into()),
    };
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || !LENGTHS.contains(&token.len()) {
        let length = token.len();
        return Err(format!(
            "has a token of {length} characters; accepted: {} to {}, printable ASCII",
            LENGTHS.start(),
            LENGTHS.end()
        ));
    }
    Ok((hash(token.as_bytes()), role))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const TWO: &str = "fedcba9876543210fedcba9876543210";

    fn loaded(text: &str) -> Result<Tokens, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, text).unwrap();
        let place = file.display().to_string();
        Tokens::load(&file).map_err(|e| e.to_string().strip_prefix(&place).unwrap().into())
    }

    #[test]
    fn a_token_has_the_role_before_it_or_all() {
        let tokens = loaded(&format!("# ours\n\n{ONE}\n  read {TWO} \n")).unwrap();
        let role = |token: &str| tokens.role(token.as_bytes()).map(|(_, role)| role);
        assert_eq!((role(ONE), role(TWO)), (Some(Role::Admin), Some(Role::Read)));
        for wrong in ["", "read", &ONE[1..], &format!("{ONE}0"), &format!("read {TWO}")] {
            assert_eq!(role(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_token() {
        let said = |text: &str| loaded(text).unwrap_err();
        assert!(said("").starts_with(": has 0 tokens; accepted: 1 to 128"));
        let short = said("\nhush-hush\n");
        assert!(short.starts_with(":2: has a token of 9 characters; accepted: 32 to 256"));
        assert!(!short.contains("hush"));
        assert!(said(&format!("root {ONE}")).starts_with(":1: has no role; accepted: read, "));
        assert!(said(&format!("{ONE}\nread {ONE}")).starts_with(":2: has a token that is there"));
        assert!(said(&format!("read {ONE} {TWO}")).starts_with(":1: has more than"));
        assert!(said(&"x".repeat(257)).starts_with(":1: has a token of 257 characters"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, ONE).unwrap();
        let tokens = Arc::new(Tokens::load(&file).unwrap());
        let following = tokio::spawn(Arc::clone(&tokens).follow());
        let knows = |token: &str| tokens.role(token.as_bytes()).is_some();
        tokio::time::sleep(LOOK / 2).await;
        for (text, one, two) in
            [("short", true, false), (TWO, false, true), ("", false, true), (ONE, true, false)]
        {
            std::fs::write(&file, text).unwrap();
            tokio::time::sleep(LOOK * 3).await;
            assert_eq!((knows(ONE), knows(TWO)), (one, two), "{text:?}");
        }
        following.abort();
    }
}
