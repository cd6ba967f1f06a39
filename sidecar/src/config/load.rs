//! From a file and the environment to a [`Config`], or to every problem in them.

use std::path::Path;

use figment::Figment;
use figment::providers::Env;
use serde_json::Value;

use super::error::{KeyPath, Place, Problem, Problems, Step};
use super::raw::{EndpointsFile, Raw};
use super::source::FileSource;
use super::{Config, StaticEndpoint, schema, validate};

/// Sections of the file; a variable whose name starts with another word is not ours, such as
/// the OUTRIGGER_PORT that Kubernetes sets for a Service of that name.
const SECTIONS: [&str; 10] = [
    "admin",
    "control",
    "runtime",
    "log",
    "dns",
    "discovery",
    "consul",
    "affinity",
    "listeners",
    "clusters",
];

/// A configuration and the text form it came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// File and environment merged, with every default filled in.
    pub raw: Raw,
}

/// Reads `path`, lets the environment override it, and judges the result.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let file = FileSource::read(path).map_err(|problem| Problems(vec![problem]))?;
    judge(Some(&file))
}

/// As [`load`], from the text of a file of that name.
pub fn load_text(name: &Path, text: &str) -> Result<Loaded, Problems> {
    let file = FileSource::parse(name, text).map_err(|problem| Problems(vec![problem]))?;
    judge(Some(&file))
}

/// The configuration without a file: defaults and the environment.
pub fn load_defaults() -> Result<Loaded, Problems> {
    judge(None)
}

/// The endpoints that the text of a file of that name lists, under `endpoints` or as all there is, judged like those of a `static` source.
pub fn load_endpoints(name: &Path, text: &str) -> Result<Vec<StaticEndpoint>, Problems> {
    let file = FileSource::parse_list(name, text, "endpoints")
        .map_err(|problem| Problems(vec![problem]))?;
    let problem = |path: &KeyPath, message: String| Problem {
        place: file.place(path),
        key: path.to_string(),
        message,
    };
    let whole = |message: String| Problems(vec![problem(&KeyPath::default(), message)]);
    let document: Value =
        Figment::from(file.clone()).extract().map_err(|e| whole(e.to_string()))?;
    let shape = schema::check::<EndpointsFile>(&document).map_err(whole)?;
    let shape: Vec<_> =
        shape.into_iter().map(|finding| problem(&finding.path, finding.message)).collect();
    if !shape.is_empty() {
        return Err(Problems(shape));
    }
    let raw: EndpointsFile = serde_json::from_value(document).map_err(|e| whole(e.to_string()))?;
    validate::endpoints(&raw.endpoints).map_err(|faults| {
        Problems(faults.into_iter().map(|(path, message)| problem(&path, message)).collect())
    })
}

fn judge(file: Option<&FileSource>) -> Result<Loaded, Problems> {
    let place = |path: &KeyPath| match file {
        _ if is_set(&path.variable()) => Place::Environment(path.variable()),
        Some(file) => file.place(path),
        None => Place::Environment(path.variable()),
    };
    let whole = |message: String| {
        let path = KeyPath::default();
        Problems(vec![Problem { place: place(&path), key: String::new(), message }])
    };

    let mut document = merge(file).map_err(|e| whole(e.to_string()))?;
    let shape = schema::check::<Raw>(&document).map_err(whole)?;
    // What has the wrong shape is taken out, so that the rest can be judged in the same run.
    for finding in &shape {
        remove(&mut document, &finding.path);
    }
    let mut problems: Vec<(KeyPath, String)> = Vec::new();
    let mut loaded = None;
    match serde_json::from_value::<Raw>(document) {
        Ok(raw) => match validate::validate(&raw) {
            Ok(config) => loaded = Some(Loaded { config, raw }),
            Err(faults) => problems = faults,
        },
        // Without a finding there is no reason for serde to disagree with the schema.
        Err(e) if shape.is_empty() => return Err(whole(e.to_string())),
        Err(_) => {}
    }
    // A fault beside a wrong shape may only be the hole that the shape left behind.
    problems.retain(|(path, _)| !shape.iter().any(|finding| finding.path.overlaps(path)));
    problems.extend(shape.into_iter().map(|finding| (finding.path, finding.message)));

    match loaded {
        Some(loaded) if problems.is_empty() => Ok(loaded),
        _ => {
            let mut problems: Vec<Problem> = problems
                .into_iter()
                .map(|(path, message)| Problem {
                    place: place(&path),
                    key: path.to_string(),
                    message,
                })
                .collect();
            problems.sort();
            Err(Problems(problems))
        }
    }
}

/// Later layers win, key by key.
fn merge(file: Option<&FileSource>) -> Result<Value, Box<figment::Error>> {
    let mut figment = Figment::new();
    if let Some(file) = file {
        figment = figment.merge(file.clone());
    }
    figment.merge(environment()).extract().map_err(Box::new)
}

fn environment() -> Env {
    Env::prefixed("OUTRIGGER_")
        .filter(|name| {
            let name = name.as_str().to_ascii_lowercase();
            name.split_once("__").is_some_and(|(section, _)| SECTIONS.contains(&section))
        })
        .split("__")
}

fn is_set(variable: &str) -> bool {
    std::env::vars_os().any(|(name, _)| name.to_string_lossy().eq_ignore_ascii_case(variable))
}

fn remove(document: &mut Value, path: &KeyPath) {
    let (Some(parent), Some(last)) = (path.parent(), path.steps().last()) else { return };
    let holder = parent.steps().iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(index),
    });
    // An item of a list stays: taking it out would shift the places of the others.
    if let (Some(Value::Object(table)), Step::Key(key)) = (holder, last) {
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_overrides_every_section() {
        let schema = schemars::schema_for!(Raw).to_value();
        let mut sections: Vec<_> =
            schema["properties"].as_object().unwrap().keys().cloned().collect();
        let mut known = SECTIONS.map(String::from);
        sections.sort();
        known.sort();
        assert_eq!(sections, known);
    }
}
