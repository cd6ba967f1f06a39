//! `outrigger resume`: takes a drain by order back.

use clap::Args;

use super::backend::BackendArgs;
use super::client::AdminArg;
use super::{Failure, print};
use crate::admin::orders::{OrderedView, ResumeBody};

#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    of: BackendArgs,
    /// Take back the order to all sidecars, in Consul
    #[arg(long)]
    fleet: bool,
    /// Take back the orders of apps, too
    #[arg(long, conflicts_with = "fleet")]
    all: bool,
    #[command(flatten)]
    admin: AdminArg,
}

impl Resume {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let body = ResumeBody { fleet: self.fleet, all: self.all };
        let ordered: OrderedView = self.admin.post(&self.of.path("resume"), &body)?;
        let OrderedView { cluster, backend } = ordered;
        print(&format!("{} of {cluster} is {}\n", backend.name, backend.state))
    }
}
