//! How Consul is asked.

use std::time::Duration;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw;
use crate::config::{Consul, ConsulAddress};

/// Consul waits no longer.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
const ADDRESS_ACCEPTS: &str = "\"http://host:port\" or \"https://host:port\"";

impl Judge {
    pub(super) fn consul(&mut self, raw: &raw::Consul, path: &KeyPath) -> Option<Consul> {
        let address = self.consul_address(&raw.address, path.key("address"));
        let token_file = self.path(raw.token_file.as_ref(), path.key("token_file"));
        let ca_file = self.path(raw.ca_file.as_ref(), path.key("ca_file"));
        let wait = self.duration(&raw.wait, path.key("wait"));
        if wait.is_some_and(|wait| wait < Duration::from_secs(1) || wait > LONGEST_WAIT) {
            self.refuse::<()>(path.key("wait"), &raw.wait.0, "a duration from \"1s\" to \"10m\"");
        }
        if let (Some(address), Some(_)) = (&address, &token_file)
            && !address.tls
            && !address.is_local()
        {
            let message =
                "is only sent to this machine or over https, and consul.address is neither";
            self.fault::<()>(path.key("token_file"), message);
        }
        let prefix = raw.kv_prefix.as_str();
        if !prefix.is_empty() && (!prefix.ends_with('/') || prefix.starts_with('/')) {
            let accepted = "a prefix such as \"outrigger/\", or \"\" for none";
            self.refuse::<()>(path.key("kv_prefix"), prefix, accepted);
        }
        Some(Consul {
            address: address?,
            token_file,
            ca_file,
            datacenter: raw.datacenter.clone(),
            namespace: raw.namespace.clone(),
            stale: raw.stale,
            wait: wait?,
            kv_prefix: (!prefix.is_empty()).then(|| prefix.into()),
        })
    }

    fn consul_address(&mut self, text: &str, path: KeyPath) -> Option<ConsulAddress> {
        let parse = || {
            let uri = text.parse::<http::Uri>().ok()?;
            let tls = match uri.scheme_str()? {
                "http" => false,
                "https" => true,
                _ => return None,
            };
            let authority = uri.authority()?;
            let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
            let host = authority.host().trim_start_matches('[').trim_end_matches(']');
            let usable = plain && !authority.as_str().contains('@') && !host.is_empty();
            let port = authority.port_u16().unwrap_or(if tls { 8501 } else { 8500 });
            usable.then(|| ConsulAddress { tls, host: host.to_lowercase(), port })
        };
        parse().or_else(|| self.refuse(path, text, ADDRESS_ACCEPTS))
    }
}
