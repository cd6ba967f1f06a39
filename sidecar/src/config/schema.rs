//! The JSON Schema of the file, and the check of a file's shape against it.
//!
//! One schema serves editors (`outrigger config schema`) and the sidecar: unknown keys, wrong
//! types, missing keys and unknown words are found by it, all at once, which serde, stopping at
//! the first, cannot do. What the values mean is [`validate`](super::validate)'s to judge.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::paths::LocationSegment;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::Value;

use super::error::KeyPath;
use super::raw::Raw;
use super::units::ACCEPTS;

/// The schema of the configuration file (JSON Schema 2020-12).
pub fn schema() -> Value {
    schema_of::<Raw>()
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .for_deserialize()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(NoNull));
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".into(), "Outrigger".into());
    schema.to_value()
}

/// An optional key is left out, never null: TOML has no null, and an empty value in YAML is
/// more often a mistake than a wish.
#[derive(Clone)]
struct NoNull;

impl Transform for NoNull {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(options)) = object.get_mut("anyOf") {
            options.retain(|option| option.get("type").is_none_or(|kind| kind != "null"));
            if let [Value::Object(only)] = options.as_slice() {
                let only = only.clone();
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
}

/// One way in which a document does not have the shape of a configuration.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: KeyPath,
    pub(super) message: String,
}

/// Everything about `document` that the schema of `T` does not allow.
pub(super) fn check<T: JsonSchema>(document: &Value) -> Result<Vec<Finding>, String> {
    let schema = schema_of::<T>();
    let validator = jsonschema::validator_for(&schema).map_err(|e| e.to_string())?;
    Ok(validator.iter_errors(document).flat_map(|error| findings(&error, &schema)).collect())
}

fn findings(error: &ValidationError<'_>, schema: &Value) -> Vec<Finding> {
    let path = key_path(error);
    let rules = rules_for(error, schema);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|key| unknown_key(&path, key, rules)).collect()
        }
        Kind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let accepted = rules
                .pointer(&format!("/properties/{key}"))
                .map(accepted)
                .unwrap_or_else(|| "a value".into());
            vec![Finding {
                path: path.key(key),
                message: format!("is missing; accepted: {accepted}"),
            }]
        }
        Kind::Enum { options } => {
            let options = words(options);
            let nearest = error.instance().as_str().and_then(|word| nearest(word, &options));
            let message = format!(
                "got {}{}; accepted: {}",
                error.instance(),
                did_you_mean(nearest),
                quoted(&options)
            );
            vec![Finding { path, message }]
        }
        // One source or a list of them: what is wrong is said of the form that was meant.
        Kind::AnyOf { context } if error.instance().is_object() || error.instance().is_array() => {
            let meant = if error.instance().is_object() { "object" } else { "array" };
            let forms = rules.pointer("/anyOf").and_then(Value::as_array);
            let is_meant = |form: &Value| form["type"] == meant;
            let place = forms.and_then(|forms| forms.iter().position(is_meant));
            let errors = place.and_then(|place| context.get(place)).into_iter().flatten();
            errors.flat_map(|error| findings(error, schema)).collect()
        }
        _ => {
            let message =
                format!("got {}; accepted: {}", shorten(error.instance()), accepted(rules));
            vec![Finding { path, message }]
        }
    }
}

fn unknown_key(path: &KeyPath, key: &str, rules: &Value) -> Finding {
    let known: Vec<&str> = match rules.get("properties") {
        Some(Value::Object(properties)) => properties.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    let message = format!(
        "unknown key `{}`{}; accepted: {}",
        key.escape_default(),
        did_you_mean(nearest(key, &known)),
        known.join(", ")
    );
    Finding { path: path.key(key), message }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|word| format!(", did you mean `{word}`?")).unwrap_or_default()
}

/// The known word that a typing error most likely stands for, if any is near.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn key_path(error: &ValidationError<'_>) -> KeyPath {
    error.instance_path().iter().fold(KeyPath::default(), |path, segment| match segment {
        LocationSegment::Property(key) => path.key(&key),
        LocationSegment::Index(index) => path.index(index),
    })
}

/// The part of the schema that holds the keyword which failed.
fn rules_for<'s>(error: &ValidationError<'_>, schema: &'s Value) -> &'s Value {
    let path = error.schema_path().as_str();
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    schema.pointer(parent).unwrap_or(&Value::Null)
}

/// What a part of the schema takes, in words.
fn accepted(rules: &Value) -> String {
    if let Some(text) = rules.get(ACCEPTS).and_then(Value::as_str) {
        return text.into();
    }
    if let Some(options) = rules.get("enum") {
        return quoted(&words(options));
    }
    if let Some(Value::Array(forms)) = rules.get("oneOf") {
        // Words, some of them with a description of their own.
        let words = forms.iter().flat_map(|form| match form.get("const") {
            Some(word) => word.as_str().into_iter().collect(),
            None => form.get("enum").map(words).unwrap_or_default(),
        });
        return quoted(&words.collect::<Vec<_>>());
    }
    if let Some(Value::Array(forms)) = rules.get("anyOf") {
        // One, or a list of the same.
        return forms.first().map(|one| accepted(one) + ", or a list of them").unwrap_or_default();
    }
    match rules.get("type").and_then(Value::as_str) {
        Some("integer") => match (rules.get("minimum"), rules.get("maximum")) {
            (Some(low), Some(high)) => format!("an integer {low}..={high}"),
            _ => "an integer".into(),
        },
        Some("string") => "text".into(),
        Some("boolean") => "true or false".into(),
        Some("array") => {
            format!("a list, each item {}", rules.get("items").map(accepted).unwrap_or_default())
        }
        Some("object") => match rules.get("properties") {
            Some(Value::Object(keys)) => {
                format!("a table with {}", keys.keys().cloned().collect::<Vec<_>>().join(", "))
            }
            _ => "a table".into(),
        },
        _ => "another value".into(),
    }
}

fn words(options: &Value) -> Vec<&str> {
    options
        .as_array()
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// A value as it may stand in a message: a table is named, not printed.
fn shorten(value: &Value) -> String {
    match value {
        Value::Object(_) => "a table".into(),
        Value::Array(_) => "a list".into(),
        scalar => {
            let text = scalar.to_string();
            match text.char_indices().nth(80) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}
