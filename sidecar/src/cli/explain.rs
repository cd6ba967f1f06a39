//! `outrigger explain`: who would be picked now, and why every other backend would not.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::AdminArg;
use super::status::table;
use super::{Failure, print, to_json};
use crate::admin::explain::ExplainView;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Name of the cluster
    cluster: String,
    /// What a request carries as its affinity key
    #[arg(long)]
    key: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArg,
}

impl Explain {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let view = ask(&self.admin, &self.cluster, self.key.as_deref())?;
        print(&if self.json { to_json(&view)? } else { render(&view) })
    }
}

/// What the sidecar says of a key.
pub(super) fn ask(
    admin: &AdminArg,
    cluster: &str,
    key: Option<&str>,
) -> Result<ExplainView, Failure> {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mut path = format!("/api/v1/explain?cluster={}", encoded(cluster));
    if let Some(key) = key {
        path += &format!("&key={}", encoded(key));
    }
    admin.get(&path)
}

fn render(view: &ExplainView) -> String {
    let mut table = table(&["  BACKEND", "STATE", "SHARE", "WHY"]);
    for backend in &view.backends {
        let mark = if view.picked.as_deref() == Some(&*backend.name) { "*" } else { " " };
        table.add_row([
            format!("{mark} {}", backend.name),
            backend.state.clone(),
            format!("{:.1} %", 100.0 * backend.share),
            backend.why.clone(),
        ]);
    }
    let backends = if view.backends.is_empty() { String::new() } else { format!("{table}\n") };
    format!("{}: {}\n{backends}", view.cluster, view.summary)
}
