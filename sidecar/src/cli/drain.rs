//! `outrigger drain`: no new work for a backend, and when what it has is done.

use std::time::Duration;

use clap::Args;

use super::backend::BackendArgs;
use super::client::AdminArg;
use super::{Failure, duration, print};
use crate::admin::clusters::{BackendView, ClustersView};
use crate::admin::orders::{DrainBody, OrderedView};
use crate::config::DurationText;

/// How often it is looked whether a drain is done.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    of: BackendArgs,
    /// When what is left is closed by force; by default as the configuration says
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<DurationText>,
    /// Return when nothing is left, and fail if something was closed by force
    #[arg(long)]
    wait: bool,
    /// Order it of all sidecars, through Consul; --wait is for this one
    #[arg(long)]
    fleet: bool,
    #[command(flatten)]
    admin: AdminArg,
}

impl Drain {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let body = DrainBody { timeout: self.timeout.clone(), fleet: self.fleet };
        let ordered: OrderedView = self.admin.post(&self.of.path("drain"), &body)?;
        let OrderedView { cluster, backend } = ordered;
        let until = backend.drain_deadline.unwrap_or_default();
        print(&format!("{} of {cluster} drains until {until}\n", backend.name))?;
        if self.wait { self.wait_for(&cluster, &backend.name) } else { Ok(()) }
    }

    fn wait_for(&self, cluster: &str, name: &str) -> Result<(), Failure> {
        loop {
            let Some(backend) = self.look(cluster, name)? else {
                return print(&format!("{name} is drained and has left {cluster}\n"));
            };
            match backend.drain {
                Some(drain) if !drain.done => std::thread::sleep(LOOK),
                Some(drain) if drain.forced == 0 => {
                    return print(&format!("{name} is drained, nothing was closed by force\n"));
                }
                Some(drain) => {
                    let message = format!("{name} is drained, {} closed by force", drain.forced);
                    return Err(Failure::Failed(message));
                }
                None => return Err(Failure::Failed(format!("{name} was resumed before the end"))),
            }
        }
    }

    fn look(&self, cluster: &str, name: &str) -> Result<Option<BackendView>, Failure> {
        let view: ClustersView = self.admin.get("/api/v1/clusters")?;
        let cluster = view.clusters.into_iter().find(|known| known.name == cluster);
        let backends = cluster.map(|cluster| cluster.backends).unwrap_or_default();
        Ok(backends.into_iter().find(|backend| backend.name == name))
    }
}
