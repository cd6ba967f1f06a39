//! What happens to the work of a cluster when things go wrong.

use std::time::Duration;

use http::HeaderName;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw;
use crate::config::units::DurationText;
use crate::config::{Affinity, AffinityBy, AffinityKey, Drain, Limits, Outlier, Retry};

/// Longest name of a cookie.
const MAX_COOKIE: usize = 128;
const COOKIE_ACCEPTS: &str =
    "a cookie's name of letters, digits and !#$%&'*+-.^_`|~, at most 128 characters";
const HEADER: &str = "x-outrigger-affinity";

impl Judge {
    pub(super) fn retry(&mut self, raw: &raw::Retry, path: &KeyPath) -> Option<Retry> {
        let budget = self.percent(&raw.budget, path.key("budget"));
        let per_try_timeout = self.timeout(&raw.per_try_timeout, path.key("per_try_timeout"));
        let hedge_after = self.timeout(&raw.hedge_after, path.key("hedge_after"));
        let on_status = self.status_ranges(&raw.on_status, &path.key("on_status"));
        Some(Retry {
            attempts: usize::from(raw.attempts),
            budget: budget?,
            min_per_second: raw.min_per_second,
            per_try_timeout: per_try_timeout?,
            hedge_after: hedge_after?,
            on_status: on_status?,
        })
    }

    pub(super) fn outlier(
        &mut self,
        raw: &raw::Outlier,
        path: &KeyPath,
    ) -> Option<Option<Outlier>> {
        let base_ejection = self.duration(&raw.base_ejection, path.key("base_ejection"));
        let max_ejection = self.duration(&raw.max_ejection, path.key("max_ejection"));
        let max_ejected = self.percent(&raw.max_ejected, path.key("max_ejected"));
        if let (Some(base), Some(max)) = (base_ejection, max_ejection)
            && max < base
        {
            let accepted = format!("at least base_ejection, {:?}", raw.base_ejection.0);
            self.refuse::<()>(path.key("max_ejection"), &raw.max_ejection.0, &accepted);
        }
        let outlier = Outlier {
            consecutive: raw.consecutive,
            consecutive_connect: raw.consecutive_connect,
            base_ejection: base_ejection?,
            max_ejection: max_ejection?,
            max_ejected: max_ejected?,
        };
        Some(raw.enabled.then_some(outlier))
    }

    pub(super) fn drain(&mut self, raw: &raw::Drain, path: &KeyPath) -> Option<Drain> {
        Some(Drain {
            timeout: self.duration(&raw.timeout, path.key("timeout"))?,
            keep_affinity: raw.keep_affinity,
            on_unhealthy: raw.on_unhealthy,
            on_removal: raw.on_removal,
        })
    }

    pub(super) fn limits(&mut self, raw: &raw::Limits, path: &KeyPath) -> Option<Limits> {
        Some(Limits {
            max_connections: raw.max_connections,
            max_requests: raw.max_requests,
            backend_max_connections: raw.backend_max_connections,
            backend_max_requests: raw.backend_max_requests,
            queue: raw.queue,
            queue_timeout: self.duration(&raw.queue_timeout, path.key("queue_timeout"))?,
        })
    }

    pub(super) fn affinity(
        &mut self,
        cluster: &str,
        raw: &raw::Affinity,
        path: &KeyPath,
    ) -> Option<Affinity> {
        let key = self.affinity_key(cluster, raw, path);
        let ttl = self.ttl(&raw.ttl, path.key("ttl"));
        let bounded_load = match &raw.bounded_load {
            Some(text) => self.bounded_load(text, path.key("bounded_load")).map(Some),
            None => Some(None),
        };
        let affinity = Affinity {
            key: key?,
            header: self.affinity_header(raw, path)?,
            ttl: ttl?,
            strict: raw.strict,
            bounded_load: bounded_load?,
        };
        if affinity.bounded_load.is_some() && !affinity.hashes() {
            let message = "only hashed keys take it: by \"header\" or \"source_ip\", not learned";
            return self.fault(path.key("bounded_load"), message);
        }
        if affinity.bounded_load.is_some() && affinity.strict {
            let message = "strict = true leaves nobody to share the load with";
            return self.fault(path.key("bounded_load"), message);
        }
        Some(affinity)
    }

    /// What a way of naming clients does not use is refused: it would be taken for effective.
    fn affinity_key(
        &mut self,
        cluster: &str,
        raw: &raw::Affinity,
        path: &KeyPath,
    ) -> Option<AffinityKey> {
        let (by, takes): (_, &[&str]) = match raw.by {
            AffinityBy::None => ("none", &[]),
            AffinityBy::Cookie => ("cookie", &["cookie", "strict"]),
            AffinityBy::Header => ("header", &["learned", "strict"]),
            AffinityBy::SourceIp => ("source_ip", &["learned", "strict"]),
        };
        let given =
            [("cookie", raw.cookie.is_some()), ("learned", raw.learned), ("strict", raw.strict)];
        for (key, _) in given.iter().filter(|(key, given)| *given && !takes.contains(key)) {
            self.fault::<()>(path.key(key), format!("by = {by:?} does not take it"));
        }
        match raw.by {
            AffinityBy::None => Some(AffinityKey::None),
            AffinityBy::SourceIp => Some(AffinityKey::SourceIp { learned: raw.learned }),
            AffinityBy::Cookie => {
                let name = raw.cookie.clone().unwrap_or_else(|| format!("LB_SESSION_{cluster}"));
                // A cookie's name is a token (RFC 6265, section 4.1.1), as a field's name is.
                match HeaderName::try_from(&name) {
                    Ok(_) if name.len() <= MAX_COOKIE => Some(AffinityKey::Cookie(name)),
                    _ => self.refuse(path.key("cookie"), &name, COOKIE_ACCEPTS),
                }
            }
            AffinityBy::Header => Some(AffinityKey::Header { learned: raw.learned }),
        }
    }

    fn affinity_header(&mut self, raw: &raw::Affinity, path: &KeyPath) -> Option<String> {
        let name = raw.header.as_deref().unwrap_or(HEADER);
        match HeaderName::try_from(name) {
            Ok(name) => Some(name.as_str().to_owned()),
            Err(_) => self.refuse(path.key("header"), name, "the name of a field"),
        }
    }

    fn ttl(&mut self, text: &DurationText, path: KeyPath) -> Option<Option<Duration>> {
        match text.0.as_str() {
            "0s" => Some(None),
            _ => self.duration(text, path).map(Some),
        }
    }

    fn bounded_load(&mut self, text: &str, path: KeyPath) -> Option<u16> {
        text.strip_suffix('%')
            .and_then(|percent| percent.parse().ok())
            .filter(|percent| (101..=1000).contains(percent))
            .or_else(|| self.refuse(path, text, "a whole percentage from \"101%\" to \"1000%\""))
    }
}
