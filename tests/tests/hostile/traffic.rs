//! Everything that an app may do on a connection, well or badly, by chance.

use std::net::SocketAddr;
use std::ops::AddAssign;

use fastrand::Rng;
use outrigger_tests::raw::Raw;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rude::{BROKEN_TUNNEL, MANNERS, TUNNEL};

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    /// Requests that were answered as they should be.
    pub good: usize,
    /// Connections that the app broke off.
    pub left: usize,
    /// Requests whose backend broke off.
    pub broken: usize,
}

impl AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.good += other.good;
        self.left += other.left;
        self.broken += other.broken;
    }
}

/// Does one thing, chosen by chance; panics when a good request is not answered well.
pub async fn something(address: SocketAddr, rng: &mut Rng) -> Done {
    let mut raw = Raw::connect(address).await;
    match rng.u8(0..10) {
        0..4 => {
            let good = rng.usize(1..6);
            for _ in 0..good {
                one_good(&mut raw, rng).await;
            }
            Done { good, ..Done::default() }
        }
        4 => Done { good: pipelined(&mut raw, rng).await, ..Done::default() },
        5 if rng.bool() => {
            // The length of the answer is not known: it ends with the connection.
            raw.send("GET /good HTTP/1.0\r\nHost: a\r\n\r\n").await;
            assert_eq!(raw.answer().await.expect("it is answered").status, 200);
            Done { good: 1, ..Done::default() }
        }
        5 => {
            tunnel(&mut raw, rng).await;
            Done { good: 1, ..Done::default() }
        }
        6..8 => {
            backend_breaks_off(&mut raw, rng).await;
            Done { broken: 1, ..Done::default() }
        }
        _ => {
            leave(raw, rng).await;
            Done { left: 1, ..Done::default() }
        }
    }
}

fn body(rng: &mut Rng) -> Vec<u8> {
    let length = *rng.choice(&[0, 1, 100, 4_096, 20_000, 65_536, 300_000]).unwrap();
    vec![rng.u8(b'a'..=b'z'); length]
}

fn chunked(body: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(rng.usize(1000..=70_000)) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn post(body: &[u8], rng: &mut Rng) -> Vec<u8> {
    let (framing, body) = match rng.bool() {
        true => (format!("Content-Length: {}", body.len()), body.to_vec()),
        false => ("Transfer-Encoding: chunked".to_owned(), chunked(body, rng)),
    };
    let mut request = format!("POST /good HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").into_bytes();
    request.extend_from_slice(&body);
    request
}

/// A request whose answer is its body; the connection stays open.
async fn one_good(raw: &mut Raw, rng: &mut Rng) {
    let body = body(rng);
    match rng.u8(0..3) {
        0 => raw.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n").await,
        1 => {
            let length = body.len().max(1);
            let head = "POST /good HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
            raw.send(format!("{head}Content-Length: {length}\r\n\r\n")).await;
            assert_eq!(raw.head().await.unwrap().status, 100);
            let body = vec![b'x'; length];
            return echoed(raw, &body, &body).await;
        }
        _ => return echoed(raw, &post(&body, rng), &body).await,
    }
    let answer = raw.answer().await.expect("it is answered");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

async fn echoed(raw: &mut Raw, request: &[u8], body: &[u8]) {
    // The sockets on the way hold more than the largest body: the echo can wait.
    raw.send(request).await;
    let answer = raw.answer().await.expect("it is answered");
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes of {}", answer.body.len(), body.len());
}

/// Several requests in one go.
async fn pipelined(raw: &mut Raw, rng: &mut Rng) -> usize {
    let bodies: Vec<_> = (0..rng.usize(2..8)).map(|_| vec![b'p'; rng.usize(0..3000)]).collect();
    let requests: Vec<u8> = bodies.iter().flat_map(|body| post(body, rng)).collect();
    raw.send(&requests).await;
    for body in &bodies {
        let answer = raw.answer().await.expect("it is answered");
        assert_eq!(answer.status, 200);
        assert!(answer.body == *body, "{} bytes of {}", answer.body.len(), body.len());
    }
    bodies.len()
}

async fn switch(raw: &mut Raw, path: &str) {
    let fields = "Host: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n";
    raw.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n")).await;
    assert_eq!(raw.head().await.expect("it is answered").status, 101);
}

async fn tunnel(raw: &mut Raw, rng: &mut Rng) {
    switch(raw, TUNNEL).await;
    for _ in 0..rng.usize(1..5) {
        let bytes = vec![rng.u8(..); rng.usize(1..50_000)];
        raw.send(&bytes).await;
        assert!(raw.exactly(bytes.len()).await == bytes);
    }
    raw.stream.shutdown().await.unwrap();
    assert!(raw.is_closed().await);
}

/// Nobody may take for whole what was not.
async fn backend_breaks_off(raw: &mut Raw, rng: &mut Rng) {
    if rng.u8(0..4) == 0 {
        switch(raw, BROKEN_TUNNEL).await;
        let (bytes, _) = raw.rest_and_end().await;
        // A reset behind them may overtake them.
        assert!(b"some".starts_with(&bytes));
        return;
    }
    let (path, said) = *rng.choice(&MANNERS).unwrap();
    let body = "x".repeat(*rng.choice(&[0, 5, 100_000]).unwrap());
    let fields = "Host: a\r\nConnection: close";
    let request = match body.len() {
        0 => format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n"),
        length => {
            format!("POST {path} HTTP/1.1\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}")
        }
    };
    // It may be answered, and the connection closed, before all is sent.
    let _ = raw.try_send(&request).await;
    let (bytes, _) = raw.rest_and_end().await;
    let text = String::from_utf8_lossy(&bytes);
    let own = text.starts_with("HTTP/1.1 502 ");
    let refused = path == "/rude/early" && text.starts_with("HTTP/1.1 403 ");
    let partly = said.starts_with(b"HTTP/1.1 200 ") && !text.ends_with("0\r\n\r\n");
    assert!(own || refused || partly, "{path} with {} bytes: {text:?}", body.len());
}

/// Goes away somewhere in a request, in its answer or in a tunnel.
async fn leave(mut raw: Raw, rng: &mut Rng) {
    let body = body(rng);
    let request = match rng.u8(0..6) {
        0 => b"GET /rude/half-a-body HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        1 => {
            switch(&mut raw, TUNNEL).await;
            body
        }
        _ => post(&body, rng),
    };
    let sent = match rng.u8(0..3) {
        0 => request.len(),
        _ => rng.usize(0..request.len().max(1)),
    };
    let _ = raw.stream.write_all(&request[..sent]).await;
    if rng.bool() {
        // A part of the answer, if there is one by now.
        let mut some = vec![0; rng.usize(1..30_000)];
        let reading = raw.stream.read(&mut some);
        let _ = tokio::time::timeout(outrigger_tests::millis(rng.u64(0..20)), reading).await;
    }
    match rng.u8(0..3) {
        0 => raw.reset(),
        1 => {
            let _ = raw.stream.shutdown().await;
        }
        _ => drop(raw),
    }
}
