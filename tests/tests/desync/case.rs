//! A request and what must come of it.

/// Stands for the identity of a request, which differs each time that it is sent.
pub const ID: &str = "ID@@@@@@";

/// A request and what must come of it.
#[derive(Debug, Clone)]
pub struct Case {
    pub what: String,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone)]
pub enum Verdict {
    /// The sidecar answers with this status and closes. The defect, by its name in the sidecar's
    /// table, may lie in the body, when the backend has seen the head.
    Refused { status: u16, defect: &'static str, in_body: bool },
    /// The backend answers.
    Passed(Seen),
}

/// A request as the backend must read it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// `BACKEND` is the backend's address.
    pub host: String,
    pub body: Vec<u8>,
    /// All fields of these names, in order.
    pub fields: Vec<(String, String)>,
    /// Names that must not be there.
    pub without: Vec<String>,
    pub trailers: Vec<(String, String)>,
    /// Whether the sidecar closes the app's connection behind the answer.
    pub closes: bool,
}

impl Case {
    pub fn passes(&self) -> bool {
        matches!(self.verdict, Verdict::Passed(_))
    }

    pub fn is_refused_in_body(&self) -> bool {
        matches!(self.verdict, Verdict::Refused { in_body: true, .. })
    }

    /// Whether the sidecar closes the connection behind it.
    pub fn closes(&self) -> bool {
        match &self.verdict {
            Verdict::Passed(seen) => seen.closes,
            Verdict::Refused { .. } => true,
        }
    }

    pub fn is_head(&self) -> bool {
        matches!(&self.verdict, Verdict::Passed(seen) if seen.method == "HEAD")
    }

    pub fn behind(mut self, before: &str) -> Self {
        self.bytes.splice(..0, before.bytes());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.seen().without.push(name.to_owned());
        self
    }

    pub fn with_trailers(mut self, trailers: &[(&str, &str)]) -> Self {
        self.seen().trailers = owned(trailers);
        self
    }

    fn seen(&mut self) -> &mut Seen {
        match &mut self.verdict {
            Verdict::Passed(seen) => seen,
            Verdict::Refused { .. } => panic!("nobody sees {}", self.what),
        }
    }
}

impl Seen {
    pub fn of(method: &str, target: &str, host: &str) -> Self {
        let (method, target, host) = (method.to_owned(), target.to_owned(), host.to_owned());
        Self { method, target, host, ..Self::default() }
    }

    pub fn with_body(self, body: &str) -> Self {
        Self { body: body.as_bytes().to_vec(), ..self }
    }

    pub fn with(self, fields: &[(&str, &str)]) -> Self {
        Self { fields: owned(fields), ..self }
    }

    pub fn without(self, names: &[&str]) -> Self {
        Self { without: names.iter().map(|name| (*name).to_owned()).collect(), ..self }
    }

    pub fn closing(self) -> Self {
        Self { closes: true, ..self }
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A request that is being sent: a case with an identity.
#[derive(Debug, Clone)]
pub struct Sent<'c> {
    pub case: &'c Case,
    pub id: String,
}

impl Sent<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        with_id(&self.case.bytes, &self.id)
    }

    /// For the message of a failing test.
    pub fn escaped(&self) -> String {
        let bytes = self.bytes();
        bytes[..bytes.len().min(300)].escape_ascii().to_string()
    }
}

/// These bytes with an identity where it belongs.
pub fn with_id(bytes: &[u8], id: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(ID.as_bytes()) {
            bytes[at..at + ID.len()].copy_from_slice(id.as_bytes());
        }
    }
    bytes
}
