//! `tcp`: a connection is opened, and closed.

use std::time::Duration;

use tokio::time::Instant;

use super::{At, connect};

pub(super) async fn run(at: At<'_>) -> Result<Duration, String> {
    let asked = Instant::now();
    connect(at).await?;
    Ok(asked.elapsed())
}
