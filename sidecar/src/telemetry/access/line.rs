//! Entries as lines: for people, or as JSON. Whatever a client says, a line stays one line of
//! printable ASCII.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::SocketAddr;

use serde::Serialize;

use super::entry::{Request, Text};
use super::{LogFormat, Queued};

/// An entry as JSON has it.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    protocol: &'a str,
    listener: &'a str,
    cluster: &'a str,
    client: Option<SocketAddr>,
    backend: Option<&'a str>,
    duration_seconds: f64,
    bytes_to_backend: u64,
    bytes_from_backend: u64,
    end: &'a str,
    #[serde(flatten)]
    request: Option<RequestPart<'a>>,
}

#[derive(Serialize)]
struct RequestPart<'a> {
    status: u16,
    error: Option<&'a str>,
    attempts: usize,
    version: Option<&'a str>,
    method: Option<Cow<'a, str>>,
    path: Option<Cow<'a, str>>,
    host: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
}

impl Queued {
    /// Appends the line, its end included.
    pub(super) fn line(&self, format: LogFormat, out: &mut Vec<u8>) -> io::Result<()> {
        match format {
            LogFormat::Json => {
                self.json()
                    .serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Ascii))?;
            }
            LogFormat::Text => self.text(out)?,
        }
        out.push(b'\n');
        Ok(())
    }

    fn json(&self) -> Line<'_> {
        let entry = &self.entry;
        Line {
            timestamp: humantime::format_rfc3339_millis(self.started).to_string(),
            protocol: self.protocol,
            listener: &self.listener,
            cluster: &entry.cluster,
            client: entry.client,
            backend: entry.backend.as_deref(),
            duration_seconds: (entry.lasted.as_secs_f64() * 1e6).round() / 1e6,
            bytes_to_backend: entry.moved.to_backend,
            bytes_from_backend: entry.moved.from_backend,
            end: entry.end.name(),
            request: entry.request.as_ref().map(RequestPart::of),
        }
    }

    fn text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let entry = &self.entry;
        write!(
            out,
            "{} {} {} {} {} {} {:.6} {} {} {}",
            humantime::format_rfc3339_millis(self.started),
            self.protocol,
            self.listener,
            OrDash(Some(&entry.cluster).filter(|name| !name.is_empty())),
            OrDash(entry.client),
            OrDash(entry.backend.as_deref()),
            entry.lasted.as_secs_f64(),
            entry.moved.to_backend,
            entry.moved.from_backend,
            entry.end.name()
        )?;
        let Some(request) = &entry.request else { return Ok(()) };
        write!(
            out,
            " {} {} {} {} {} {} {} {}",
            request.status,
            OrDash(request.error),
            request.attempts,
            OrDash(request.version),
            Quoted(&request.method),
            Quoted(&request.path),
            Quoted(&request.host),
            Quoted(&request.user_agent)
        )
    }
}

impl<'a> RequestPart<'a> {
    fn of(request: &'a Request) -> Self {
        let text =
            |text: &'a Option<Text>| text.as_ref().map(|text| String::from_utf8_lossy(&text.0));
        Self {
            status: request.status,
            error: request.error,
            attempts: request.attempts,
            version: request.version,
            method: text(&request.method),
            path: text(&request.path),
            host: text(&request.host),
            user_agent: text(&request.user_agent),
        }
    }
}

struct OrDash<T>(Option<T>);

impl<T: Display> Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(it) => it.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// In quotes, with what is not printable escaped, and what would end the quotes.
struct Quoted<'a>(&'a Option<Text>);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, "\"{}\"", text.0.escape_ascii()),
            None => f.write_str("-"),
        }
    }
}

/// JSON with everything beyond ASCII escaped, too: among it are characters that control terminals,
/// and some that end lines.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let printable = |character: char| (' '..='~').contains(&character);
        for plain_then_not in fragment.split_inclusive(|character| !printable(character)) {
            let plain = plain_then_not.trim_end_matches(|character| !printable(character));
            out.write_all(plain.as_bytes())?;
            for unit in plain_then_not[plain.len()..].encode_utf16() {
                write!(out, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::{Entry, Moved};
    use super::*;
    use crate::telemetry::metrics::End;

    fn connection() -> Queued {
        Queued {
            listener: "db".into(),
            protocol: "tcp",
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            entry: Entry {
                cluster: "main".into(),
                client: Some(([127, 0, 0, 1], 4711).into()),
                backend: Some("10.0.0.1:5432".into()),
                lasted: Duration::from_micros(1_234_567),
                moved: Moved { to_backend: 10, from_backend: 20 },
                end: End::Finished,
                request: None,
            },
        }
    }

    fn request(said: &[u8]) -> Queued {
        let mut queued = connection();
        queued.protocol = "http";
        queued.entry.request = Some(Request {
            status: 503,
            error: Some("overflow"),
            attempts: 2,
            version: Some("1.1"),
            method: Some(Text::of(b"GET")),
            path: Some(Text::of(said)),
            host: None,
            user_agent: Some(Text::of(said)),
        });
        queued
    }

    fn line(queued: &Queued, format: LogFormat) -> String {
        let mut line = Vec::new();
        queued.line(format, &mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        line.strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn a_line_says_who_where_how_long_and_why() {
        let mut queued = connection();
        assert_eq!(
            line(&queued, LogFormat::Text),
            "1970-01-01T00:00:01.500Z tcp db main 127.0.0.1:4711 10.0.0.1:5432 1.234567 10 20 finished"
        );
        assert_eq!(
            line(&queued, LogFormat::Json),
            r#"{"timestamp":"1970-01-01T00:00:01.500Z","protocol":"tcp","listener":"db","cluster":"main","client":"127.0.0.1:4711","backend":"10.0.0.1:5432","duration_seconds":1.234567,"bytes_to_backend":10,"bytes_from_backend":20,"end":"finished"}"#
        );
        let entry = &mut queued.entry;
        (entry.cluster, entry.client, entry.backend) = ("".into(), None, None);
        let line = line(&queued, LogFormat::Text);
        assert!(line.contains(" tcp db - - - 1.234567 "), "{line}");
    }

    #[test]
    fn that_of_a_request_also_what_was_asked_and_answered() {
        let queued = request(b"/a \"b\"\\\n\x7f\xc2\x85");
        let text = line(&queued, LogFormat::Text);
        let said = r#""/a \"b\"\\\n\x7f\xc2\x85""#;
        assert!(
            text.ends_with(&format!(" 20 finished 503 overflow 2 1.1 \"GET\" {said} - {said}")),
            "{text}"
        );
        let json = line(&queued, LogFormat::Json);
        let said = r#""/a \"b\"\\\n\u007f\u0085""#;
        let end = format!(
            r#""end":"finished","status":503,"error":"overflow","attempts":2,"version":"1.1","method":"GET","path":{said},"host":null,"user_agent":{said}}}"#
        );
        assert!(json.ends_with(&end), "{json}");
    }

    proptest! {
        /// What clients say may be anything.
        #[test]
        fn lines_are_lines_and_json_is_json(said in prop::collection::vec(any::<u8>(), 0..1500)) {
            let queued = request(&said);
            let said = &said[..said.len().min(1024)];
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = line(&queued, format);
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line}");
            }
            let json: Value = serde_json::from_str(&line(&queued, LogFormat::Json)).unwrap();
            prop_assert_eq!(json["path"].as_str().unwrap(), String::from_utf8_lossy(said));
        }
    }
}
