//! `outrigger weight`: another weight for a backend, or the one of discovery again.

use clap::Args;

use super::backend::BackendArgs;
use super::client::AdminArg;
use super::{Failure, duration, print};
use crate::admin::orders::{OrderedView, WeightBody};
use crate::config::DurationText;

#[derive(Debug, Args)]
pub(super) struct Weight {
    #[command(flatten)]
    of: BackendArgs,
    /// 0 to 65535, or `reset` for what discovery says
    #[arg(value_name = "N|reset", value_parser = weight)]
    weight: Wanted,
    /// When what discovery says holds again; by default at `reset`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<DurationText>,
    /// Order it of all sidecars, through Consul
    #[arg(long, conflicts_with = "ttl")]
    fleet: bool,
    /// With `reset`: take back the orders of apps, too
    #[arg(long, conflicts_with_all = ["fleet", "ttl"])]
    all: bool,
    #[command(flatten)]
    admin: AdminArg,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Weight(u16),
    Reset,
}

fn weight(text: &str) -> Result<Wanted, String> {
    match text {
        "reset" => Ok(Wanted::Reset),
        number => number.parse().map(Wanted::Weight).map_err(|_| "accepted: 0 to 65535".into()),
    }
}

impl Weight {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let weight = match self.weight {
            Wanted::Weight(weight) => Some(weight),
            Wanted::Reset => None,
        };
        let (ttl, fleet, all) = (self.ttl.clone(), self.fleet, self.all);
        let body = WeightBody { weight, ttl, fleet, all };
        let ordered: OrderedView = self.admin.post(&self.of.path("weight"), &body)?;
        let OrderedView { cluster, backend } = ordered;
        print(&format!("{} of {cluster} has weight {}\n", backend.name, backend.weight.effective))
    }
}
