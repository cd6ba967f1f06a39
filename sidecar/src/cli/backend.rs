//! Which backend a command is about.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

#[derive(Debug, Args)]
pub(super) struct BackendArgs {
    /// Name of the cluster
    cluster: String,
    /// Its backend, as `status` has it: ip:port, or a target's name that only one backend has
    backend: String,
}

impl BackendArgs {
    /// The page of the admin API that takes an order about it.
    pub(super) fn path(&self, order: &str) -> String {
        let [cluster, backend] =
            [&self.cluster, &self.backend].map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC));
        format!("/api/v1/clusters/{cluster}/backends/{backend}/{order}")
    }
}
