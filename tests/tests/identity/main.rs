//! Who is who: the PROXY protocol and TLS, with real peers on both sides.

mod announced;
mod originated;
mod passed;
mod terminated;

use std::process::Output;

use outrigger_tests::{secs, tool};
use tokio::process::Command;

/// Runs curl: exit code, and what it got.
async fn curl(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(tool("curl", "curl"));
    command.args(["-sS", "--max-time", "8", "--noproxy", "*"]).args(arguments);
    let ended = tokio::time::timeout(secs(10), command.output()).await;
    let Output { status, stdout, .. } = ended.expect("it ends").unwrap();
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&stdout).into_owned())
}
