//! One configuration file: its values for figment, and the line of each key.
//!
//! figment's own providers give no lines, and its YAML is an unmaintained crate, so the three
//! formats are parsed here. Lines come from a second look at the same text that keeps spans:
//! `toml` has a spanned tree, and serde-saphyr gives locations for YAML and, since JSON is a
//! subset of YAML 1.2, for JSON too.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{KeyPath, Place, Problem};

/// Files above this are refused: no configuration comes near it.
const MAX_SIZE: u64 = 4 << 20;

/// A parsed file, as a layer for figment.
#[derive(Debug, Clone)]
pub(super) struct FileSource {
    path: PathBuf,
    values: Dict,
    lines: HashMap<KeyPath, usize>,
}

impl FileSource {
    /// Reads and parses a file.
    pub(super) fn read(path: &Path) -> Result<Self, Problem> {
        let text = read_text(path).map_err(|message| problem(path, None, message))?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file; the ending of its name says which format it has.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        let root = KeyPath::default();
        let (values, lines) = match Format::of(path) {
            Format::Yaml => parse_yaml(text, &root),
            Format::Json => parse_json(text, &root),
            Format::Toml => parse_toml(text),
        }
        .map_err(|(line, message)| problem(path, line, message))?;
        Ok(Self { path: path.into(), values, lines })
    }

    /// As `parse`, but a text that is nothing but a list stands for a table with this key.
    pub(super) fn parse_list(path: &Path, text: &str, key: &str) -> Result<Self, Problem> {
        let format = Format::of(path);
        if format == Format::Toml || !is_list(text) {
            return Self::parse(path, text);
        }
        let root = KeyPath::default().key(key);
        let (list, lines): (Vec<Value>, _) = match format {
            Format::Json => parse_json(text, &root),
            _ => parse_yaml(text, &root),
        }
        .map_err(|(line, message)| problem(path, line, message))?;
        let values = Dict::from([(key.to_owned(), list.into())]);
        Ok(Self { path: path.into(), values, lines })
    }

    /// The line of the value at `path`, or of the nearest table around it that has one.
    pub(super) fn place(&self, path: &KeyPath) -> Place {
        let mut at = Some(path.clone());
        let mut line = None;
        while let (None, Some(path)) = (line, at) {
            line = self.lines.get(&path).copied();
            at = path.parent();
        }
        Place::File { path: self.path.display().to_string(), line }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Yaml,
    Json,
}

impl Format {
    fn of(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("yaml" | "yml") => Self::Yaml,
            Some("json") => Self::Json,
            _ => Self::Toml,
        }
    }
}

/// Whether a text in JSON or YAML begins as a list does.
fn is_list(text: &str) -> bool {
    let lines = text.lines().map(str::trim_start);
    let mut said =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#') && *line != "---");
    said.next().is_some_and(|line| line.starts_with('[') || line.starts_with('-'))
}

impl Provider for FileSource {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration file").source(self.path.as_path())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn problem(path: &Path, line: Option<usize>, message: String) -> Problem {
    let place = Place::File { path: path.display().to_string(), line };
    Problem { place, key: String::new(), message }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?.len();
    if size > MAX_SIZE {
        return Err(format!("is {size} bytes long; at most {MAX_SIZE} are read"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))
}

type Parsed<T> = Result<(T, HashMap<KeyPath, usize>), (Option<usize>, String)>;

fn parse_toml(text: &str) -> Parsed<Dict> {
    let line_of = |offset: usize| {
        1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
    };
    let fault =
        |e: toml::de::Error| (e.span().map(|span| line_of(span.start)), e.message().to_owned());
    let spanned = DeTable::parse(text).map_err(fault)?;
    let mut lines = HashMap::new();
    toml_lines(spanned.get_ref(), &KeyPath::default(), &line_of, &mut lines);
    Ok((toml::from_str(text).map_err(fault)?, lines))
}

fn toml_lines(
    table: &DeTable<'_>,
    path: &KeyPath,
    line_of: &impl Fn(usize) -> usize,
    lines: &mut HashMap<KeyPath, usize>,
) {
    for (key, value) in table {
        let path = path.key(key.get_ref());
        lines.insert(path.clone(), line_of(key.span().start));
        toml_value_lines(value.get_ref(), &path, line_of, lines);
    }
}

fn toml_value_lines(
    value: &DeValue<'_>,
    path: &KeyPath,
    line_of: &impl Fn(usize) -> usize,
    lines: &mut HashMap<KeyPath, usize>,
) {
    match value {
        DeValue::Table(table) => toml_lines(table, path, line_of, lines),
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let path = path.index(i);
                lines.insert(path.clone(), line_of(item.span().start));
                toml_value_lines(item.get_ref(), &path, line_of, lines);
            }
        }
        _ => {}
    }
}

/// `root`: where the document is, for the lines.
fn parse_json<T: DeserializeOwned>(text: &str, root: &KeyPath) -> Parsed<T> {
    let values = serde_json::from_str(text).map_err(|e| (Some(e.line()), e.to_string()))?;
    // What serde_json takes and saphyr does not (a tab as indentation, say) only costs lines.
    let lines =
        serde_saphyr::from_str::<Located>(text).map(|node| node.lines(root)).unwrap_or_default();
    Ok((values, lines))
}

fn parse_yaml<T: DeserializeOwned>(text: &str, root: &KeyPath) -> Parsed<T> {
    let fault = |e: serde_saphyr::Error| {
        let line = e.location().and_then(|location| usize::try_from(location.line()).ok());
        (line, e.without_snippet().to_string())
    };
    let located = serde_saphyr::from_str::<Located>(text).map_err(fault)?;
    Ok((serde_saphyr::from_str(text).map_err(fault)?, located.lines(root)))
}

/// The shape of a document with the line of every node, its scalars left out.
enum Located {
    Map(Vec<(Spanned<String>, Spanned<Located>)>),
    List(Vec<Spanned<Located>>),
    Scalar,
}

impl Located {
    fn lines(&self, root: &KeyPath) -> HashMap<KeyPath, usize> {
        let mut lines = HashMap::new();
        self.collect(root, &mut lines);
        lines
    }

    fn collect(&self, path: &KeyPath, lines: &mut HashMap<KeyPath, usize>) {
        let line_of =
            |location: serde_saphyr::Location| usize::try_from(location.line()).unwrap_or(0);
        match self {
            Self::Map(entries) => {
                for (key, value) in entries {
                    let path = path.key(&key.value);
                    lines.insert(path.clone(), line_of(key.referenced));
                    value.value.collect(&path, lines);
                }
            }
            Self::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    let path = path.index(i);
                    lines.insert(path.clone(), line_of(item.referenced));
                    item.value.collect(&path, lines);
                }
            }
            Self::Scalar => {}
        }
    }
}

impl<'de> Deserialize<'de> for Located {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LocatedVisitor)
    }
}

struct LocatedVisitor;

/// Every kind of scalar is the same to us.
macro_rules! scalars {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Located, E> {
            Ok(Located::Scalar)
        })*
    };
}

impl<'de> Visitor<'de> for LocatedVisitor {
    type Value = Located;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128,
        visit_f64: f64, visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E>(self) -> Result<Located, E> {
        Ok(Located::Scalar)
    }

    fn visit_none<E>(self) -> Result<Located, E> {
        Ok(Located::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Located, D::Error> {
        Located::deserialize(deserializer)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Located, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Located::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Located, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Located::List(items))
    }
}
