//! Clusters: their policies, and what their backends are sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw;
use crate::config::{Cluster, ClusterTimeouts, HostPolicy};

/// How long a tunnel or TCP connection may be silent, and a UDP session.
const IDLE: Duration = Duration::from_secs(3600);
const SESSION_IDLE: Duration = Duration::from_secs(60);

impl Judge {
    pub(super) fn clusters(
        &mut self,
        raw: &BTreeMap<String, raw::Cluster>,
        consul: &raw::Consul,
        path: &KeyPath,
    ) -> Vec<Arc<Cluster>> {
        let judge = |(name, cluster): (&String, &raw::Cluster)| {
            let path = path.key(name);
            self.name(name, path.clone());
            self.cluster(name, cluster, consul, &path).map(Arc::new)
        };
        raw.iter().filter_map(judge).collect()
    }

    fn cluster(
        &mut self,
        name: &str,
        raw: &raw::Cluster,
        consul: &raw::Consul,
        path: &KeyPath,
    ) -> Option<Cluster> {
        let host = self.host_policy(&raw.host, path.key("host"));
        let panic_threshold = self.percent(&raw.panic_threshold, path.key("panic_threshold"));
        let removal_hold = self.timeout(&raw.removal_hold, path.key("removal_hold"));
        let sources = self.sources(raw.discovery.as_ref(), consul, &path.key("discovery"));
        let health = match &raw.health {
            Some(health) => self.health(health, &path.key("health")).map(Some),
            None => Some(None),
        };
        let timeouts = path.key("timeouts");
        let connect = self.timeout(&raw.timeouts.connect, timeouts.key("connect"));
        let response = self.timeout(&raw.timeouts.response, timeouts.key("response"));
        let stream_idle = self.timeout(&raw.timeouts.stream_idle, timeouts.key("stream_idle"));
        let (idle, session_idle) = match &raw.timeouts.idle {
            Some(idle) => {
                let idle = self.timeout(idle, timeouts.key("idle"));
                (idle, idle)
            }
            None => (Some(Some(IDLE)), Some(Some(SESSION_IDLE))),
        };
        let half_closed = self.timeout(&raw.timeouts.half_closed, timeouts.key("half_closed"));
        let max_age = self.timeout(&raw.timeouts.max_age, timeouts.key("max_age"));
        let retry = self.retry(&raw.retry, &path.key("retry"));
        let outlier = self.outlier(&raw.outlier, &path.key("outlier"));
        let drain = self.drain(&raw.drain, &path.key("drain"));
        let affinity = self.affinity(name, &raw.affinity, &path.key("affinity"));
        let limits = self.limits(&raw.limits, &path.key("limits"));
        let slow_start = match &raw.slow_start.window {
            Some(window) => self.duration(window, path.key("slow_start").key("window")).map(Some),
            None => Some(None),
        };
        let tls = self.cluster_tls(raw.tls.as_ref(), &path.key("tls"));
        Some(Cluster {
            name: name.into(),
            policy: raw.policy,
            host: host?,
            panic_threshold: panic_threshold?,
            tier_spill: raw.tier_spill,
            removal_hold: removal_hold?,
            sources: sources?,
            health: health?,
            timeouts: ClusterTimeouts {
                connect: connect?,
                response: response?,
                stream_idle: stream_idle?,
                idle: idle?,
                half_closed: half_closed?,
                max_age: max_age?,
                session_idle: session_idle?,
            },
            retry: retry?,
            outlier: outlier?,
            drain: drain?,
            affinity: affinity?,
            limits: limits?,
            proxy_protocol: raw.proxy_protocol,
            slow_start: slow_start?,
            tls: tls?,
        })
    }

    fn host_policy(&mut self, text: &str, path: KeyPath) -> Option<HostPolicy> {
        match text {
            "auto" => Some(HostPolicy::Auto),
            "preserve" => Some(HostPolicy::Preserve),
            "target" => Some(HostPolicy::Target),
            literal => {
                let accepted = "\"auto\", \"preserve\", \"target\" or a host to send";
                self.literal_host(literal, path, accepted).map(HostPolicy::Literal)
            }
        }
    }

    pub(super) fn literal_host(
        &mut self,
        text: &str,
        path: KeyPath,
        accepted: &str,
    ) -> Option<HeaderValue> {
        let authority = text.parse::<http::uri::Authority>();
        let plain = authority.is_ok_and(|parsed| !parsed.as_str().contains('@'));
        match HeaderValue::from_str(text) {
            Ok(value) if plain => Some(value),
            _ => self.refuse(path, text, accepted),
        }
    }
}
