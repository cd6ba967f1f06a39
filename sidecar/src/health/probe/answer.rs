//! Whether the answer of an `http` probe meets its conditions.

use http::StatusCode;
use serde_json::Value;

use super::excerpt;
use crate::config::{Expected, HttpProbe, JsonCondition};

/// The error says what the status is.
pub(super) fn status(probe: &HttpProbe, status: StatusCode) -> Result<(), String> {
    let code = status.as_u16();
    match probe.expect_status.iter().any(|range| range.contains(&code)) {
        true => Ok(()),
        false => Err(format!("status {code}")),
    }
}

/// The error names the first condition that does not hold.
pub(super) fn body(probe: &HttpProbe, body: &[u8]) -> Result<(), String> {
    if let Some(regex) = &probe.expect_body
        && !regex.is_match(body)
    {
        return Err(format!("body {} does not match {:?}", excerpt(body), regex.as_str()));
    }
    if probe.expect_json.is_empty() {
        return Ok(());
    }
    let document = serde_json::from_slice(body)
        .map_err(|error| format!("body {} is not JSON: {error}", excerpt(body)))?;
    probe.expect_json.iter().try_for_each(|condition| holds(condition, &document))
}

fn holds(condition: &JsonCondition, document: &Value) -> Result<(), String> {
    let JsonCondition { pointer, expected } = condition;
    let Some(found) = document.pointer(pointer) else {
        return Err(format!("{pointer:?} is not in the body"));
    };
    let (passes, wanted) = match expected {
        Expected::Value(wanted) => (equal(found, wanted), wanted.to_string()),
        Expected::Matching(regex) => {
            let passes = match found {
                Value::String(text) => regex.is_match(text.as_bytes()),
                Value::Number(_) | Value::Bool(_) => regex.is_match(found.to_string().as_bytes()),
                Value::Null | Value::Array(_) | Value::Object(_) => false,
            };
            (passes, format!("a match of {:?}", regex.as_str()))
        }
        Expected::Within(bounds) => {
            let passes = found.as_f64().is_some_and(|number| bounds.contains(&number));
            (passes, format!("a number from {} to {}", bounds.start(), bounds.end()))
        }
    };
    match passes {
        true => Ok(()),
        false => Err(format!("{pointer:?} is {}, expected {wanted}", shown(found))),
    }
}

/// JSON has one kind of number: 1 and 1.0 are equal.
fn equal(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            a.as_f64() == b.as_f64()
        }
        _ => found == wanted,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(_) => "a list".into(),
        Value::String(text) => excerpt(text.as_bytes()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;
    use serde_json::json;

    use super::*;

    fn judge(pointer: &str, expected: Expected) -> Result<(), String> {
        let document = json!({
            "status": "healthy", "free": 7, "load": 2.0, "ready": true, "none": null,
            "checks": [{ "ok": false }], "a/b": "slash",
        });
        holds(&JsonCondition { pointer: pointer.into(), expected }, &document)
    }

    fn value(value: Value) -> Expected {
        Expected::Value(value)
    }

    fn matching(text: &str) -> Expected {
        Expected::Matching(Regex::new(text).unwrap())
    }

    #[test]
    fn values_are_equal_as_json_has_them() {
        for (pointer, wanted) in [
            ("/status", json!("healthy")),
            ("/free", json!(7)),
            ("/free", json!(7.0)),
            ("/load", json!(2)),
            ("/ready", json!(true)),
            ("/checks/0/ok", json!(false)),
            ("/a~1b", json!("slash")),
        ] {
            assert_eq!(judge(pointer, value(wanted)), Ok(()), "{pointer}");
        }
        for (pointer, wanted) in
            [("/free", json!("7")), ("/ready", json!("true")), ("/none", json!(false))]
        {
            assert!(judge(pointer, value(wanted)).is_err(), "{pointer}");
        }
    }

    #[test]
    fn expressions_look_at_scalars_only() {
        assert_eq!(judge("/status", matching("^heal")), Ok(()));
        assert_eq!(judge("/free", matching("^[5-9]$")), Ok(()));
        assert_eq!(judge("/ready", matching("^(true|false)$")), Ok(()));
        for pointer in ["/none", "/checks", ""] {
            assert!(judge(pointer, matching("")).is_err(), "{pointer}");
        }
    }

    #[test]
    fn bounds_are_inclusive_and_of_numbers() {
        assert_eq!(judge("/free", Expected::Within(7.0..=f64::INFINITY)), Ok(()));
        assert_eq!(judge("/free", Expected::Within(f64::NEG_INFINITY..=7.0)), Ok(()));
        assert!(judge("/free", Expected::Within(7.5..=9.0)).is_err());
        assert!(judge("/status", Expected::Within(f64::NEG_INFINITY..=f64::INFINITY)).is_err());
    }

    #[test]
    fn failures_name_the_place_and_both_values() {
        let said = |pointer, expected| judge(pointer, expected).unwrap_err();
        assert_eq!(said("/status", value(json!("up"))), r#""/status" is "healthy", expected "up""#);
        assert_eq!(
            said("/free", Expected::Within(8.0..=f64::INFINITY)),
            r#""/free" is 7, expected a number from 8 to inf"#
        );
        assert_eq!(said("/gone", matching("x")), r#""/gone" is not in the body"#);
        assert_eq!(
            said("/checks", matching("x")),
            r#""/checks" is a list, expected a match of "x""#
        );
    }
}
