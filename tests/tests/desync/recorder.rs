//! A backend that keeps every byte of every connection and says what it answered where.
//!
//! It finds the end of a request in the simplest way that serves: whether that was right is for
//! the parsers of others to say, who get the bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use outrigger_tests::backend::serve;
use outrigger_tests::{eventually, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Then the backend closes the connection, as servers do.
const ANSWERS_PER_CONNECTION: usize = 50;

pub struct Recorder {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Recorded>>>,
    task: JoinHandle<()>,
}

/// A connection.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    pub bytes: Vec<u8>,
    /// Bytes of them that were answered.
    pub answered: usize,
    /// Whether the sidecar has closed it.
    pub closed: bool,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<Mutex<Vec<Recorded>>>::default();
        let all = Arc::clone(&connections);
        let task = serve(listener, move |stream| {
            let mut connections = all.lock().unwrap();
            connections.push(Recorded::default());
            let number = connections.len() - 1;
            drop(connections);
            speak(stream, number, Arc::clone(&all))
        });
        Self { address, connections, task }
    }

    /// What was received, once nothing more is under way: every connection has been answered to
    /// its last byte, or is closed.
    pub async fn settled(&self) -> Vec<Recorded> {
        eventually("each connection is answered or closed", secs(5), || async {
            let connections = self.connections.lock().unwrap();
            let done = |c: &Recorded| c.closed || c.answered == c.bytes.len();
            connections.iter().all(done).then(|| connections.clone())
        })
        .await
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn speak(mut stream: TcpStream, number: usize, all: Arc<Mutex<Vec<Recorded>>>) {
    let (mut unanswered, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let (mut answers, mut continued, mut early) = (0, false, false);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        all.lock().unwrap()[number].bytes.extend_from_slice(&buffer[..read]);
        unanswered.extend_from_slice(&buffer[..read]);
        while let Some(request) = Request::of(&unanswered) {
            if request.expects && request.early.is_none() && !continued {
                let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                continued = true;
            }
            if let (Some(status), false) = (&request.early, early) {
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                early = true;
            }
            let Some((body, length)) = request.body(&unanswered).filter(|_| !early) else { break };
            let last = answers + 1 == ANSWERS_PER_CONNECTION;
            // Noted first: whoever has the answer may look.
            all.lock().unwrap()[number].answered += length;
            let _ = stream.write_all(&request.answer(&body, number, answers, last)).await;
            unanswered.drain(..length);
            (answers, continued) = (answers + 1, false);
            if last {
                let _ = stream.shutdown().await;
            }
        }
    }
    all.lock().unwrap()[number].closed = true;
}

/// The head of a request.
struct Request {
    method: String,
    target: String,
    id: String,
    expects: bool,
    /// The status that it asks to be answered with as soon as its head is there.
    early: Option<String>,
    framing: Framing,
    length: usize,
}

enum Framing {
    Length(usize),
    Chunked,
}

impl Request {
    /// Once its head is whole.
    fn of(bytes: &[u8]) -> Option<Self> {
        let length = find(bytes, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..length]);
        let field = |name: &str| {
            let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
            fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
        };
        let chunked = field("transfer-encoding").is_some();
        let declared = field("content-length").and_then(|length| length.parse().ok());
        let mut line = head.split(' ').map(str::to_owned);
        Some(Self {
            method: line.next()?,
            target: line.next()?,
            id: field("x-id").unwrap_or_default().to_owned(),
            expects: field("expect").is_some(),
            early: field("x-early").map(str::to_owned),
            framing: if chunked {
                Framing::Chunked
            } else {
                Framing::Length(declared.unwrap_or(0))
            },
            length,
        })
    }

    /// The body and the length of the whole request, once it is there.
    fn body(&self, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        match self.framing {
            Framing::Length(length) => {
                let end = self.length + length;
                Some((bytes.get(self.length..end)?.to_vec(), end))
            }
            Framing::Chunked => {
                let (mut body, mut at) = (Vec::new(), self.length);
                loop {
                    let data = at + find(&bytes[at..], b"\r\n")? + 2;
                    let size = std::str::from_utf8(&bytes[at..data - 2]).ok()?;
                    let size = usize::from_str_radix(size, 16).ok()?;
                    if size == 0 {
                        // The line of the size ends where empty trailers do.
                        let end = data - 2 + find(&bytes[data - 2..], b"\r\n\r\n")? + 4;
                        return Some((body, end));
                    }
                    at = data + size + 2;
                    body.extend_from_slice(bytes.get(data..at)?.get(..size)?);
                }
            }
        }
    }

    /// Says what was read, and on which connection as which request.
    fn answer(&self, body: &[u8], connection: usize, nth: usize, last: bool) -> Vec<u8> {
        let Self { method, target, id, .. } = self;
        let line = format!("{method} {target}\n");
        let close = if last { "Connection: close\r\n" } else { "" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nX-Id: {id}\r\nX-Place: {connection}.{nth}\r\n\
             Content-Length: {}\r\n{close}\r\n",
            line.len() + body.len()
        )
        .into_bytes();
        if method != "HEAD" {
            answer.extend_from_slice(line.as_bytes());
            answer.extend_from_slice(body);
        }
        answer
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
