//! The ACL token, which may be another tomorrow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::disk;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A token is a UUID, or what an identity provider makes.
const MAX_TOKEN: u64 = 16 << 10;

/// Where the token is. It is never logged.
#[derive(Debug)]
pub(super) struct Token(Option<PathBuf>);

impl Token {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self(file)
    }

    /// The token; `None` without a file, or when it cannot be read.
    pub(super) fn read(&self) -> Option<Arc<str>> {
        let path = self.0.as_ref()?;
        match read(path) {
            Ok(token) => Some(token),
            Err(error) => {
                tracing::error!("{}: no ACL token for Consul: {error}", path.display());
                None
            }
        }
    }

    /// Waits until the file has another token than this.
    pub(super) async fn replaced(&self, current: Option<&str>) {
        let Some(path) = &self.0 else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            // A file that is just being replaced is looked at again.
            if read(path).is_ok_and(|token| current != Some(&*token)) {
                return;
            }
        }
    }
}

fn read(path: &Path) -> Result<Arc<str>, String> {
    let bytes = disk::read(path, MAX_TOKEN).map_err(|e| e.to_string())?;
    let token = str::from_utf8(&bytes).map_err(|e| e.to_string())?.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    match token {
        "" => Err("it is empty".into()),
        token if is_plain => Ok(token.into()),
        _ => Err("it has characters that no token has".into()),
    }
}
