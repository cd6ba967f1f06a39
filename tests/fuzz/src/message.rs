//! One form for what two codecs read, so that it can be compared.

use crate::proxy::http::h1::fields::may_trail;

/// A request or an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub head: Head,
    pub body: Text,
    pub trailers: Fields,
}

/// `first` and `second` are the method and [`place`] of a request, or the status and reason of an
/// answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    pub first: String,
    pub second: String,
    pub http10: bool,
    pub fields: Fields,
}

/// Bytes that are mostly text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Fields by name, those of one name in the order they came in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, Vec<u8>)>);

impl Fields {
    pub fn new<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let name = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
        let mut fields: Vec<_> = fields.map(|(n, value)| (name(n), value.to_vec())).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self(fields)
    }

    /// Of those that come after a body, the ones that may.
    pub fn trailers<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        Self::new(fields.filter(|(name, _)| may_trail(name)))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |field| field.0 == name).map(|field| field.1)
    }

    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |(name, value): &(String, Vec<u8>)| format!("{name}: {}", value.escape_ascii());
        f.debug_list().entries(self.0.iter().map(text)).finish()
    }
}

/// What a request is for, wherever its parts came from.
pub fn place(host: Option<&str>, path: &str, query: &str) -> String {
    format!("{} {path}{query}", host.unwrap_or("-"))
}
