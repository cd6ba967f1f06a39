//! Active health checks of kind `http`: the request, and the conditions of its answer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

use super::Judge;
use crate::config::error::KeyPath;
use crate::config::raw::{self, JsonExpectation};
use crate::config::{Expected, HttpProbe, JsonCondition};

/// Bounds what a regular expression may cost in memory, compiled and while it searches.
const MAX_REGEX: usize = 1 << 20;

/// Fields that say where a message ends and what the connection is for are not to be chosen.
const OWN_FIELDS: [HeaderName; 7] = [
    http::header::CONNECTION,
    http::header::CONTENT_LENGTH,
    http::header::EXPECT,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
];

impl Judge {
    pub(super) fn http_probe(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<HttpProbe> {
        let method = self.method(raw, path);
        let target = self.target(raw.path.as_deref().unwrap_or("/"), path.key("path"));
        let headers = self.fields(&raw.headers, &path.key("headers"));
        let expect_status = self.statuses(raw.expect_status.as_deref(), &path.key("expect_status"));
        let expect_body = match &raw.expect_body {
            Some(text) => self.expect_body(text, path.key("expect_body")).map(Some),
            None => Some(None),
        };
        let expect_json = match &raw.expect_json {
            Some(conditions) => self.expect_json(conditions, &path.key("expect_json")),
            None => Some(Vec::new()),
        };
        Some(HttpProbe {
            method: method?,
            path: target?,
            headers: headers?,
            expect_status: expect_status?,
            expect_body: expect_body?,
            expect_json: expect_json?,
        })
    }

    fn method(&mut self, raw: &raw::Health, path: &KeyPath) -> Option<Method> {
        let text = raw.method.as_deref().unwrap_or("GET");
        let method = match Method::from_bytes(text.as_bytes()) {
            Ok(method) if method != Method::CONNECT => method,
            _ => return self.refuse(path.key("method"), text, "a method other than CONNECT"),
        };
        let judges_body = [
            ("expect_body", raw.expect_body.is_some()),
            ("expect_json", raw.expect_json.is_some()),
        ];
        for (key, given) in judges_body {
            if given && method == Method::HEAD {
                self.fault::<()>(path.key(key), "an answer to method \"HEAD\" has no body");
            }
        }
        Some(method)
    }

    fn target(&mut self, text: &str, path: KeyPath) -> Option<PathAndQuery> {
        match PathAndQuery::try_from(text) {
            Ok(target) if text.starts_with('/') => Some(target),
            _ => self.refuse(path, text, "a path that starts with `/`"),
        }
    }

    fn fields(&mut self, raw: &BTreeMap<String, String>, path: &KeyPath) -> Option<HeaderMap> {
        let mut fields = HeaderMap::new();
        let mut complete = true;
        for (name, value) in raw {
            match self.field(name, value, path.key(name)) {
                Some((name, value)) => drop(fields.append(name, value)),
                None => complete = false,
            }
        }
        complete.then_some(fields)
    }

    fn field(
        &mut self,
        name: &str,
        value: &str,
        path: KeyPath,
    ) -> Option<(HeaderName, HeaderValue)> {
        let name = match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) if name == http::header::HOST => {
                return self.fault(path, "give it as `host` of the health check");
            }
            Ok(name) if OWN_FIELDS.contains(&name) => {
                return self.fault(path, "is set by the probe itself");
            }
            Ok(name) => name,
            Err(_) => {
                return self.fault(path, "is no name of a field: letters, digits and `-` are");
            }
        };
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                Some((name, value))
            }
            // It may be a credential, so it is not shown.
            Err(_) => self.fault(path, "has control characters; accepted: printable text"),
        }
    }

    fn statuses(
        &mut self,
        raw: Option<&[String]>,
        path: &KeyPath,
    ) -> Option<Vec<RangeInclusive<u16>>> {
        let Some(texts) = raw else { return Some(vec![200..=299]) };
        if texts.is_empty() {
            self.fault::<()>(path.clone(), "is empty, so no answer would ever pass");
        }
        self.status_ranges(texts, path)
    }

    pub(super) fn status_ranges(
        &mut self,
        texts: &[String],
        path: &KeyPath,
    ) -> Option<Vec<RangeInclusive<u16>>> {
        let judge = |(i, text): (usize, &String)| self.status_range(text, path.index(i));
        let judged: Vec<_> = texts.iter().enumerate().map(judge).collect();
        judged.into_iter().collect()
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

    fn expect_body(&mut self, text: &str, path: KeyPath) -> Option<Regex> {
        if text.is_empty() {
            return self.fault(path, "is empty, so every body would pass");
        }
        self.regex(text, path)
    }

    fn expect_json(
        &mut self,
        raw: &BTreeMap<String, JsonExpectation>,
        path: &KeyPath,
    ) -> Option<Vec<JsonCondition>> {
        if raw.is_empty() {
            self.fault::<()>(path.clone(), "is empty; accepted: JSON pointers with what they hold");
        }
        let mut judge = |(pointer, expected): (&String, &JsonExpectation)| {
            let path = path.key(pointer);
            let expected = self.expected(&expected.0, &path);
            if !is_pointer(pointer) {
                let accepted = "a JSON pointer, \"/status\" or \"/checks/0/ok\"";
                self.refuse::<()>(path, pointer, accepted);
            }
            Some(JsonCondition { pointer: pointer.clone(), expected: expected? })
        };
        let judged: Vec<_> = raw.iter().map(&mut judge).collect();
        judged.into_iter().collect()
    }

    fn expected(&mut self, value: &Value, path: &KeyPath) -> Option<Expected> {
        match value {
            Value::String(text) => match text.strip_prefix('~') {
                Some(expression) => self.regex(expression, path.clone()).map(Expected::Matching),
                None => Some(Expected::Value(value.clone())),
            },
            Value::Number(_) | Value::Bool(_) => Some(Expected::Value(value.clone())),
            Value::Object(bounds) => {
                for key in bounds.keys().filter(|key| !["min", "max"].contains(&key.as_str())) {
                    let message = format!("unknown key {key:?}; accepted: min, max");
                    self.fault::<()>(path.key(key), message);
                }
                let min = self.bound(bounds.get("min"), f64::NEG_INFINITY, path.key("min"))?;
                let max = self.bound(bounds.get("max"), f64::INFINITY, path.key("max"))?;
                if min > max {
                    return self.fault(path.clone(), format!("min {min} is above max {max}"));
                }
                if bounds.is_empty() {
                    return self.fault(path.clone(), "is empty; accepted: `min`, `max` or both");
                }
                Some(Expected::Within(min..=max))
            }
            other => self.refuse(path.clone(), &other.to_string(), JsonExpectation::ACCEPTS),
        }
    }

    fn bound(&mut self, value: Option<&Value>, without: f64, path: KeyPath) -> Option<f64> {
        match value {
            None => Some(without),
            Some(value) => match value.as_f64() {
                Some(bound) => Some(bound),
                None => self.fault(path, format!("got {value}; accepted: a number")),
            },
        }
    }

    fn regex(&mut self, text: &str, path: KeyPath) -> Option<Regex> {
        let built = RegexBuilder::new(text).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
        match built {
            Ok(regex) => Some(regex),
            Err(regex::Error::CompiledTooBig(_)) => {
                self.refuse(path, text, "a regular expression of at most 1 MiB when compiled")
            }
            Err(error) => {
                // The last line says what is wrong, those before draw where.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                self.refuse(path, text, &format!("a regular expression ({reason})"))
            }
        }
    }
}

/// RFC 6901, section 3: empty for the whole, else parts that each begin with a slash, in which
/// `~` is only the start of `~0` or `~1`.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_pointers_are_those_of_rfc_6901() {
        for good in ["", "/", "/status", "/a/0/b", "/a~1b/~0c"] {
            assert!(is_pointer(good), "{good}");
        }
        for bad in ["status", ".status", "/a~", "/a~2b"] {
            assert!(!is_pointer(bad), "{bad}");
        }
    }

    /// Repetitions of repetitions are short to write and long to compile.
    #[test]
    fn a_regular_expression_that_explodes_is_refused() {
        let mut judge = Judge { faults: Vec::new() };
        assert!(judge.regex("(ok){3}", KeyPath::default()).is_some());
        assert!(judge.regex("((a{100}){100}){100}", KeyPath::default()).is_none());
        assert!(judge.faults[0].1.contains("at most 1 MiB"), "{:?}", judge.faults);
    }
}
