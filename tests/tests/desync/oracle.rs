//! What parsers of others read in the bytes that a backend received: llhttp, by way of Node's
//! HTTP server, and h11. Both run as they come, with no leniency switched on.

use std::io::{Seek, Write};
use std::path::PathBuf;

use outrigger_tests::{root, tool};
use serde_json::Value;
use tokio::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oracle {
    Llhttp,
    H11,
}

/// A connection as a parser reads it.
#[derive(Debug, PartialEq)]
pub struct Reading {
    /// The last one may not be whole.
    pub requests: Vec<Read>,
    /// Why it reads no further.
    pub error: String,
}

#[derive(Debug, PartialEq)]
pub struct Read {
    /// Whether its end is there. If not, there may be nothing but half a head.
    pub whole: bool,
    pub method: String,
    pub target: String,
    pub version: String,
    /// With names in lower case.
    pub fields: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
    /// In hexadecimal.
    pub body: String,
}

impl Read {
    /// The values of a field, in order.
    pub fn field(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, v)| v.as_str()).collect()
    }
}

impl Oracle {
    /// What it reads on each of these connections.
    pub async fn read(self, connections: impl Iterator<Item = &[u8]>) -> Vec<Reading> {
        let mut input = tempfile::tempfile().unwrap();
        for bytes in connections {
            writeln!(input, "{}", hexadecimal(bytes)).unwrap();
        }
        input.rewind().unwrap();
        let (interpreter, script) = match self {
            Self::Llhttp => (tool("node", "nodejs"), "llhttp.js"),
            Self::H11 => (python(), "h11_reader.py"),
        };
        let mut command = Command::new(interpreter);
        command.arg(root().join("tests/oracle").join(script)).stdin(input).kill_on_drop(true);
        let output = command.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {said}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| reading(&serde_json::from_str(line).unwrap())).collect()
    }
}

/// Where `tests/run` has installed h11.
fn python() -> PathBuf {
    let python = root().join("target/oracle-venv/bin/python");
    assert!(python.is_file(), "{} is missing: run ./tests/run", python.display());
    python
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn reading(line: &Value) -> Reading {
    let requests = line["requests"].as_array().expect("a list of requests");
    Reading { requests: requests.iter().map(read).collect(), error: text(&line["error"]) }
}

fn read(request: &Value) -> Read {
    let pairs = |name: &str| {
        let pairs = request[name].as_array().into_iter().flatten();
        pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    };
    Read {
        whole: request["whole"] == true,
        method: text(&request["method"]),
        target: text(&request["target"]),
        version: text(&request["version"]),
        fields: pairs("fields"),
        trailers: pairs("trailers"),
        body: text(&request["body"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Otherwise their agreement would mean nothing. What one of them lets pass the other does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_parsers_are_strict() {
    use Oracle::{H11, Llhttp};
    let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\n\
                Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    let post =
        |fields: &str, body: &str| format!("POST /2 HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    let bad: &[(&[Oracle], String)] = &[
        (&[Llhttp], post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        (&[Llhttp, H11], post("Content-Length: 5\r\nContent-Length: 6", "hello!")),
        (&[Llhttp, H11], post("Content-Length: +5", "hello")),
        (&[H11], post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n")),
        (&[H11], post("Content-Length : 5", "hello")),
        (&[Llhttp], post("X: y\r\n z", "")),
        (&[Llhttp, H11], post("X: a\rb", "")),
        (&[H11], post("Host: a", "")),
        (&[Llhttp, H11], post("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n")),
        (&[Llhttp, H11], post("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n")),
        (&[Llhttp, H11], "GET /2 HTTP/1.1\r\nHost: a\r\n\r".to_owned() + &post("X: y", "")),
        (&[Llhttp], "hello".to_owned() + &post("X: y", "")),
        (&[Llhttp, H11], "\0\0".to_owned() + &post("X: y", "")),
    ];
    let all: Vec<String> = bad.iter().map(|(_, bytes)| format!("{good}{bytes}")).collect();
    for oracle in [Llhttp, H11] {
        let readings = oracle.read(all.iter().map(String::as_bytes)).await;
        for ((strict, _), (reading, bytes)) in bad.iter().zip(readings.iter().zip(&all)) {
            let whole = reading.requests.iter().filter(|request| request.whole).count();
            if strict.contains(&oracle) {
                assert!(whole <= 2, "{oracle:?} reads more in {bytes:?}: {reading:?}");
                assert_ne!(reading.error, "", "{oracle:?} lets pass {bytes:?}");
            }
        }
    }
}
