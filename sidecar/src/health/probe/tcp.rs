//! `tcp`: a connection is opened, and closed.

use std::time::Duration;

use tokio::time::Instant;

use super::connect;
use crate::net::Address;

pub(super) async fn run(address: &Address) -> Result<Duration, String> {
    let asked = Instant::now();
    connect(address).await?;
    Ok(asked.elapsed())
}
