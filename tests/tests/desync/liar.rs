//! A backend that answers badly when it is asked to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};

use outrigger_tests::backend::serve;
use outrigger_tests::raw::Raw;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::framing::bad_chunks;

/// Nobody asked for it.
const EVIL: &str = "HTTP/1.1 200 OK\r\nX-Id: evil\r\nContent-Length: 4\r\n\r\nevil";

/// A bad answer.
#[derive(Debug)]
pub struct Bad {
    pub what: String,
    pub bytes: Vec<u8>,
    pub fate: Fate,
    /// Whether the backend closes behind it.
    close: bool,
    /// Of the request.
    pub method: &'static str,
    pub version: &'static str,
}

/// What the app gets of it.
#[derive(Debug)]
pub enum Fate {
    /// A 502 with this `x-outrigger-error`, and its connection goes on.
    Refused(&'static str),
    /// A 502, or a part of it and no end.
    Broken,
    /// This status and body, which are good; what is behind them is not.
    Served(u16, &'static str),
}

impl Bad {
    fn new(what: impl Into<String>, bytes: impl AsRef<[u8]>, fate: Fate) -> Self {
        let (what, bytes) = (what.into(), bytes.as_ref().to_vec());
        Self { what, bytes, fate, close: false, method: "GET", version: "1.1" }
    }
}

/// All of them.
pub fn answers() -> Vec<Bad> {
    [refused(), broken(), served()].into_iter().flatten().collect()
}

fn refused() -> Vec<Bad> {
    let line = |line: &str| format!("{line}\r\nContent-Length: 5\r\n\r\nhello");
    let with = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    let flood = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40);
    let mut rows = vec![
        ("garbage".to_owned(), "garbage\r\n\r\n".to_owned()),
        ("no text".to_owned(), "\0\0\0\0".to_owned()),
        ("frames of HTTP/2".to_owned(), "\0\0\x06\x04\0\0\0\0\0\0\x04\0\x01\0\0".to_owned()),
        ("alert of TLS".to_owned(), "\x15\x03\x01\0\x02\x02\x28".to_owned()),
        ("bytes before it".to_owned(), format!("hello{EVIL}")),
        ("body of an interim answer".to_owned(), {
            format!("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello{EVIL}")
        }),
        ("interim answers".to_owned(), flood + EVIL),
        ("switch".to_owned(), {
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello".to_owned()
        }),
        ("bare LF everywhere".to_owned(), EVIL.replace('\r', "")),
        ("bare LF behind the status line".to_owned(), EVIL.replacen("\r\n", "\n", 1)),
        ("bare LF at the end".to_owned(), EVIL.replace("\r\n\r\n", "\r\n\n")),
        ("bare CR at the end".to_owned(), EVIL.replace("\r\n\r\n", "\r\n\r")),
        ("large head".to_owned(), with(&format!("X: {}", "y".repeat(1 << 20)))),
        ("many fields".to_owned(), with(&many)),
    ];
    rows.extend(
        [
            "HTTP/2.0 200 OK",
            "HTTP/1.2 200 OK",
            "HTTP/0.9 200 OK",
            "HTTP/1.1 2OO OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 -20 OK",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1  200 OK",
            "HTTP/1.1\t200 OK",
            " HTTP/1.1 200 OK",
            "ICY 200 OK",
            "http/1.1 200 OK",
            "GET / HTTP/1.1",
            "HTTP/1.1 200 O\0K",
            "HTTP/1.1 200 O\rK",
            "HTTP/1.1 200 OK\r",
            "HTTP/1.1 200 OK\r\n X: y",
        ]
        .map(|text| ("status line".to_owned(), line(text))),
    );
    rows.extend(
        [
            "X : y",
            ": y",
            "X",
            "X: y\r\n z",
            "X: y\r\n\tz",
            "X: \0",
            "X: y\rz",
            "X\0: y",
            "X Y: z",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 5 x",
            "Content-Length: 0x5",
            "Content-Length:",
            "Content-Length: 18446744073709551616",
            "Content-Length : 5",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked\x0b",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding:",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding : chunked",
        ]
        .map(|fields| (fields.to_owned(), with(fields))),
    );
    rows.push(("coding of HTTP/1.0".to_owned(), {
        with("Transfer-Encoding: chunked").replacen("1.1", "1.0", 1)
    }));
    let refused = |(what, bytes)| Bad::new(what, bytes, Fate::Refused("upstream_protocol"));
    let ended = ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"].map(|bytes| {
        let fate = Fate::Refused("reset");
        Bad { close: true, ..Bad::new("end inside a head", bytes, fate) }
    });
    rows.into_iter().map(refused).chain(ended).collect()
}

fn broken() -> Vec<Bad> {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
    let chunked = head("Transfer-Encoding: chunked");
    let bad = bad_chunks().into_iter().flat_map(|(what, body)| {
        let answer =
            Bad::new(format!("{what} {body:.30}"), format!("{chunked}{body}"), Fate::Broken);
        let to_http10 = Bad::new(&*answer.what, &answer.bytes, Fate::Broken);
        [answer, Bad { version: "1.0", ..to_http10 }]
    });
    let short = [
        head("Content-Length: 10") + "hello",
        head("Content-Length: 10"),
        chunked.clone(),
        format!("{chunked}5"),
        format!("{chunked}5\r\nhe"),
        format!("{chunked}5\r\nhello\r\n"),
        format!("{chunked}5\r\nhello\r\n0\r\n"),
        format!("{chunked}5\r\nhello\r\n0\r\nX: y\r\n"),
    ]
    .map(|bytes| Bad { close: true, ..Bad::new("end inside a body", bytes, Fate::Broken) });
    bad.chain(short).collect()
}

fn served() -> Vec<Bad> {
    let served = |what: &str, head: &str, behind: &str, status, body| {
        let bytes = format!("HTTP/1.1 {status} X\r\n{head}\r\n{behind}");
        Bad::new(what, bytes, Fate::Served(status, body))
    };
    const CL: &str = "Content-Length: 5\r\n";
    const TE: &str = "Transfer-Encoding: chunked\r\n";
    let to_head =
        |what, fields, behind| Bad { method: "HEAD", ..served(what, fields, behind, 200, "") };
    let answer = format!("hello{EVIL}");
    let chunks = format!("5\r\nhello\r\n0\r\n\r\n{EVIL}");
    vec![
        served("bytes behind the body", CL, "hello!", 200, "hello"),
        served("line behind the body", CL, "hello\r\n", 200, "hello"),
        served("answer behind the body", CL, &answer, 200, "hello"),
        served("answer behind chunks", TE, &chunks, 200, "hello"),
        served("answer behind no body", "Content-Length: 0\r\n", EVIL, 200, ""),
        served("body of a 204", CL, "hello", 204, ""),
        served("chunks of a 204", TE, &chunks, 204, ""),
        served("answer behind a 204", "", EVIL, 204, ""),
        served("body of a 304", CL, "hello", 304, ""),
        served("answer behind a 304", "", EVIL, 304, ""),
        to_head("body for a HEAD", CL, "hello"),
        to_head("chunks for a HEAD", TE, &chunks),
        to_head("answer behind that to a HEAD", CL, EVIL),
    ]
}

pub struct Liar {
    pub address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    connections: Mutex<Vec<Connection>>,
    /// Where to write on the newest connection.
    newest: Mutex<Option<Writer>>,
    /// The sidecar, if bad answers come byte by byte.
    drip: OnceLock<SocketAddr>,
}

type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

/// A connection, as far as it went.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// Which bad answer it carried.
    pub bad: Option<usize>,
    /// Whether anything came behind that.
    pub used_again: bool,
    pub closed: bool,
}

impl Liar {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let (shared, all) = (Arc::clone(&state), Arc::new(answers()));
        let task = serve(listener, move |stream| {
            let (state, all) = (Arc::clone(&shared), Arc::clone(&all));
            let mut connections = state.connections.lock().unwrap();
            connections.push(Connection::default());
            let number = connections.len() - 1;
            drop(connections);
            async move { converse(stream, number, &state, &all).await }
        });
        Self { address, state, task }
    }

    /// From now on bad answers come byte by byte, each byte when this sidecar, of one worker,
    /// has read the last one: it has if it has served a request that came later.
    pub fn drip(&self, sidecar: SocketAddr) {
        self.state.drip.set(sidecar).unwrap();
    }

    pub fn connections(&self) -> Vec<Connection> {
        self.state.connections.lock().unwrap().clone()
    }

    /// Sends an answer to nobody on the newest connection.
    pub async fn say_unasked(&self) {
        let newest = self.state.newest.lock().unwrap().clone().expect("there is a connection");
        newest.lock().await.write_all(EVIL.as_bytes()).await.unwrap();
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn note(&self, number: usize, note: impl FnOnce(&mut Connection)) {
        note(&mut self.connections.lock().unwrap()[number]);
    }
}

/// Serves a connection up to a bad answer, and watches what comes behind that.
async fn converse(stream: TcpStream, number: usize, state: &State, all: &[Bad]) {
    let (from, to) = stream.into_split();
    let to = Arc::new(tokio::sync::Mutex::new(to));
    *state.newest.lock().unwrap() = Some(Arc::clone(&to));
    let mut requests = BufReader::new(from);
    let mut line = String::new();
    while let Ok(1..) = requests.read_line(&mut line).await {
        let request = std::mem::take(&mut line);
        while let Ok(3..) = requests.read_line(&mut line).await {
            line.clear();
        }
        line.clear();
        let mut to = to.lock().await;
        let path = request.split(' ').nth(1).unwrap_or_default();
        let Some(n) = path.strip_prefix("/bad/").and_then(|n| n.parse::<usize>().ok()) else {
            let body = format!("good {}", path.trim_start_matches("/good/"));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = to.write_all(format!("{head}{body}").as_bytes()).await;
            continue;
        };
        state.note(number, |connection| connection.bad = Some(n));
        match state.drip.get() {
            None => drop(to.write_all(&all[n].bytes).await),
            Some(sidecar) => drip(&mut to, &all[n].bytes, *sidecar).await,
        }
        if all[n].close {
            let _ = to.shutdown().await;
        }
        break;
    }
    while let Ok(1..) = requests.read_line(&mut line).await {
        state.note(number, |connection| connection.used_again = true);
    }
    state.note(number, |connection| connection.closed = true);
}

async fn drip(to: &mut OwnedWriteHalf, bytes: &[u8], sidecar: SocketAddr) {
    let mut between = Raw::connect(sidecar).await;
    for byte in bytes {
        if to.write_all(&[*byte]).await.is_err() {
            return;
        }
        between.send("GET /good/drip HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(between.answer().await.expect("an answer").text(), "good drip");
    }
}
