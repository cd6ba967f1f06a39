//! `outrigger events`: what has happened to clusters and backends, and why.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::AdminArg;
use super::{Failure, print, reaches_reader, to_json};
use crate::admin::events::{EventView, EventsView};

/// How long an answer may wait for something to happen; below what the client waits for.
const WAIT: &str = "5s";

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Only those of this cluster
    cluster: Option<String>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    follow: bool,
    /// Print JSON: one document, or with --follow one event a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArg,
}

impl Events {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut page = self.ask(0, false)?;
        if self.json && !self.follow {
            return print(&to_json(&page)?);
        }
        loop {
            for event in &page.events {
                if !reaches_reader(&self.line(event)?)? {
                    return Ok(());
                }
            }
            if !self.follow {
                return Ok(());
            }
            page = self.ask(page.latest, true)?;
        }
    }

    fn ask(&self, after: u64, wait: bool) -> Result<EventsView, Failure> {
        let mut path = format!("/api/v1/events?after={after}");
        if let Some(cluster) = &self.cluster {
            path += &format!("&cluster={}", utf8_percent_encode(cluster, NON_ALPHANUMERIC));
        }
        if wait {
            path += &format!("&wait={WAIT}");
        }
        self.admin.get(&path)
    }

    fn line(&self, event: &EventView) -> Result<String, Failure> {
        if self.json {
            let text = serde_json::to_string(event);
            return Ok(text.map_err(|e| Failure::Failed(e.to_string()))? + "\n");
        }
        let backend = event.backend.as_deref().unwrap_or("-");
        let EventView { at, cluster, kind, cause, .. } = event;
        Ok(format!("{at}  {cluster}  {backend}  {kind}: {cause}\n"))
    }
}
