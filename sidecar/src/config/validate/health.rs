//! Active health checks.

use std::ops::RangeInclusive;

use http::uri::PathAndQuery;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, ProbeKind};
use crate::config::{Health, Probe};

impl Judge {
    pub(super) fn health(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<Health> {
        let interval = self.duration(&raw.interval, path.key("interval"));
        let timeout = self.duration(&raw.timeout, path.key("timeout"));
        let probe = match raw.probe {
            None => self.missing(path.key("probe")),
            Some(ProbeKind::Tcp) => {
                let http_only =
                    [("path", raw.path.is_some()), ("expect_status", raw.expect_status.is_some())];
                for (key, _) in http_only.into_iter().filter(|(_, given)| *given) {
                    self.fault::<()>(path.key(key), "probe \"tcp\" does not take it");
                }
                Some(Probe::Tcp)
            }
            Some(ProbeKind::Http) => self.http_probe(raw, path),
        };
        Some(Health {
            probe: probe?,
            interval: interval?,
            timeout: timeout?,
            rise: raw.rise,
            fall: raw.fall,
        })
    }

    fn http_probe(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<Probe> {
        let text = raw.path.as_deref().unwrap_or("/");
        let target = match PathAndQuery::try_from(text) {
            Ok(target) if text.starts_with('/') => Some(target),
            _ => self.refuse(path.key("path"), text, "a path that starts with `/`"),
        };
        let default = vec!["200-299".to_owned()];
        let statuses = raw.expect_status.as_ref().unwrap_or(&default);
        if statuses.is_empty() {
            self.fault::<()>(path.key("expect_status"), "is empty, so no answer would ever pass");
        }
        let judged: Vec<_> = statuses
            .iter()
            .enumerate()
            .map(|(i, text)| self.status_range(text, path.key("expect_status").index(i)))
            .collect();
        let expect_status = judged.into_iter().collect::<Option<Vec<_>>>();
        Some(Probe::Http { path: target?, expect_status: expect_status? })
    }

    fn status_range(&mut self, text: &str, path: KeyPath) -> Option<RangeInclusive<u16>> {
        let status = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
        let range = match text.split_once('-') {
            Some((low, high)) => status(low).zip(status(high)),
            None => status(text).map(|code| (code, code)),
        };
        match range {
            Some((low, high)) if low <= high => Some(low..=high),
            _ => self.refuse(path, text, "a status or a range from 100 to 599, \"200-299\""),
        }
    }
}
