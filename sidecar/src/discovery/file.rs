//! Endpoints from a file.

use std::path::Path;

use super::Reporter;
use crate::cluster::Endpoint;

/// Follows the file for as long as the sidecar runs.
pub(super) async fn follow(path: &Path, reporter: &Reporter) {
    match read(path).await {
        Ok(endpoints) => reporter.found(endpoints, false).await,
        Err(error) => reporter.failed(error).await,
    }
}

pub(super) async fn read(path: &Path) -> Result<Vec<Endpoint>, String> {
    Err(format!("{}: not read yet", path.display()))
}
