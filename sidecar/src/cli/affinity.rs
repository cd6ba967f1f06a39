//! `outrigger affinity`: binds a key to a backend, says where one leads, or takes that back.

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::client::AdminArg;
use super::{Failure, duration, explain, print};
use crate::admin::affinity::{AffinityBody, AffinityView};
use crate::config::DurationText;

#[derive(Debug, Args)]
pub(super) struct Affinity {
    /// Name of the cluster
    cluster: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bind a key to a backend
    Set {
        key: String,
        /// As `status` has it: ip:port, or a target's name that only one backend has
        backend: String,
        /// When the key is free again; by default at `clear`
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        ttl: Option<DurationText>,
        #[command(flatten)]
        admin: AdminArg,
    },
    /// Say where a key leads now
    Get {
        key: String,
        #[command(flatten)]
        admin: AdminArg,
    },
    /// Take the pin of a key back
    Clear {
        key: String,
        #[command(flatten)]
        admin: AdminArg,
    },
}

impl Affinity {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match &self.what {
            What::Get { key, admin } => {
                let view = explain::ask(admin, &self.cluster, Some(key))?;
                print(&format!("{}: {}\n", view.cluster, view.summary))
            }
            What::Set { key, backend, ttl, admin } => {
                let (key, backend, ttl) = (key.clone(), Some(backend.clone()), ttl.clone());
                let view = self.change(admin, &AffinityBody { key, backend, ttl })?;
                let backend = view.backend.unwrap_or_default();
                print(&format!("{} of {} is pinned to {backend}\n", view.key, view.cluster))
            }
            What::Clear { key, admin } => {
                let body = AffinityBody { key: key.clone(), ..AffinityBody::default() };
                let view = self.change(admin, &body)?;
                let what = if view.cleared { "is no longer pinned" } else { "was not pinned" };
                print(&format!("{} of {} {what}\n", view.key, view.cluster))
            }
        }
    }

    fn change(&self, admin: &AdminArg, body: &AffinityBody) -> Result<AffinityView, Failure> {
        let cluster = utf8_percent_encode(&self.cluster, NON_ALPHANUMERIC);
        admin.post(&format!("/api/v1/clusters/{cluster}/affinity"), body)
    }
}
