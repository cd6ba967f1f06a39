//! `outrigger resume`: takes a drain by order back.

use clap::Args;

use super::backend::BackendArgs;
use super::client::AdminArg;
use super::{Failure, print};
use crate::admin::orders::OrderedView;

#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    of: BackendArgs,
    #[command(flatten)]
    admin: AdminArg,
}

impl Resume {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let nothing = serde_json::json!({});
        let ordered: OrderedView = self.admin.post(&self.of.path("resume"), &nothing)?;
        let OrderedView { cluster, backend } = ordered;
        print(&format!("{} of {cluster} is {}\n", backend.name, backend.state))
    }
}
