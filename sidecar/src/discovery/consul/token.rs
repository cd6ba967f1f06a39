//! The ACL token, which may be another tomorrow.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::disk;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A token is a UUID, or what an identity provider makes.
const MAX_TOKEN: u64 = 16 << 10;

type Look = Result<Arc<str>, String>;

/// Where the token is, and what was seen at the last look, whoever looked. It is never logged.
#[derive(Debug)]
pub(super) struct Token {
    file: Option<PathBuf>,
    last: Mutex<Option<(Instant, Look)>>,
}

impl Token {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { file, last: Mutex::default() }
    }

    /// The token; `None` without a file, or when it cannot be read.
    pub(super) fn read(&self) -> Option<Arc<str>> {
        let path = self.file.as_ref()?;
        let unreadable = |error: String| {
            tracing::error!("{}: no ACL token for Consul: {error}", path.display());
        };
        self.look(path).map_err(unreadable).ok()
    }

    /// Waits until the file has another token than this.
    pub(super) async fn replaced(&self, current: Option<&str>) {
        let Some(path) = &self.file else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            // A file that is just being replaced is looked at again.
            if self.look(path).is_ok_and(|token| current != Some(&*token)) {
                return;
            }
        }
    }

    /// All watches look through the same eyes: each by itself, hundreds would read the file all the
    /// time.
    fn look(&self, path: &Path) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, look)) if at.elapsed() < LOOK / 2 => look.clone(),
            _ => last.insert((Instant::now(), read(path))).1.clone(),
        }
    }
}

fn read(path: &Path) -> Look {
    let bytes = disk::read(path, MAX_TOKEN).map_err(|e| e.to_string())?;
    let token = str::from_utf8(&bytes).map_err(|e| e.to_string())?.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    match token {
        "" => Err("it is empty".into()),
        token if is_plain => Ok(token.into()),
        _ => Err("it has characters that no token has".into()),
    }
}
