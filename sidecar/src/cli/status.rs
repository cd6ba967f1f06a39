//! `outrigger status`: what a running sidecar knows of its clusters.

use clap::Args;
use comfy_table::{Table, presets};

use super::client::AdminArg;
use super::{Failure, print, to_json};
use crate::admin::clusters::{BackendView, ClusterView, ClustersView, OrderView};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only this cluster
    cluster: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArg,
}

impl Status {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut view: ClustersView = self.admin.get("/api/v1/clusters")?;
        if let Some(wanted) = &self.cluster {
            only(&mut view, wanted)?;
        }
        if self.json {
            return print(&to_json(&view)?);
        }
        print(&render(&view))
    }
}

/// Leaves the other clusters out.
pub(super) fn only(view: &mut ClustersView, wanted: &str) -> Result<(), Failure> {
    let known: Vec<_> = view.clusters.iter().map(|cluster| cluster.name.clone()).collect();
    view.clusters.retain(|cluster| cluster.name == wanted);
    match view.clusters.is_empty() {
        false => Ok(()),
        true => {
            let known = known.join(", ");
            let message = format!("no cluster is called {wanted:?}; there are: {known}");
            Err(Failure::Failed(message))
        }
    }
}

pub(super) fn render(view: &ClustersView) -> String {
    let mut text = String::new();
    for (i, cluster) in view.clusters.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        text += &format!("{}\n", heading(cluster));
        if !cluster.backends.is_empty() {
            text += &format!("{}\n", backends(cluster));
        }
    }
    text
}

pub(super) fn heading(cluster: &ClusterView) -> String {
    let ready = cluster.backends.iter().filter(|backend| backend.state == "ready").count();
    let mut heading = format!(
        "{}: {ready} of {} backends ready, {}",
        cluster.name,
        cluster.backends.len(),
        cluster.policy
    );
    if cluster.panic {
        heading += ", PANIC: failing backends are used, there are no others";
    }
    if let Some(since) = &cluster.stale_since {
        heading += &match cluster.remembered {
            true => format!(", discovery fails: endpoints are remembered from {since}"),
            false => format!(", discovery fails since {since}"),
        };
    }
    heading
}

fn backends(cluster: &ClusterView) -> Table {
    let mut table =
        table(&["  BACKEND", "STATE", "TIER", "WEIGHT", "IN FLIGHT", "SOURCE", "REASON", "ORDERS"]);
    for backend in &cluster.backends {
        table.add_row(row(backend));
    }
    table
}

fn row(backend: &BackendView) -> [String; 8] {
    [
        format!("  {}", backend.name),
        backend.state.clone(),
        backend.priority.to_string(),
        backend.weight.effective.to_string(),
        backend.in_flight.to_string(),
        backend.source.clone(),
        backend.reason.clone(),
        backend.orders.iter().map(order).collect::<Vec<_>>().join("; "),
    ]
}

pub(super) fn order(order: &OrderView) -> String {
    let what = match (order.weight, order.factor) {
        (Some(weight), _) => format!("weight {weight}"),
        (None, Some(factor)) => format!("weight x {factor}"),
        (None, None) => order.kind.clone(),
    };
    let end = match &order.expires_at {
        Some(at) => format!(", until {at}"),
        None if order.leased => ", leased".into(),
        None => String::new(),
    };
    format!("{what} by {}{end}", order.owner)
}

/// Columns without lines between them, so that `grep` and `awk` have an easy time.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
