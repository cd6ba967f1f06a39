//! Backends whose answers are not HTTP, and never end: many at a time, beside good ones.
//!
//! What becomes of each kind of bad answer is in `tests/desync/answers.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use outrigger_tests::backend::{Backend, config, serve};
use outrigger_tests::load::Load;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// How each begins, and what follows for ever.
const ENDLESS: [(&str, &str, &str); 8] = [
    ("interim answers", "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    ("a field", "HTTP/1.1 200 OK\r\nX: ", "yyyyyyyy"),
    ("fields", "HTTP/1.1 200 OK\r\n", "X-Field: y\r\n"),
    ("a size of a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "00000000"),
    ("an extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", "xxxxxxxx"),
    ("trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: yyyyyy\r\n"),
    ("frames of HTTP/2", "", "\0\0\x06\x04\0\0\0\0\0\0\x04\0\x01\0\0"),
    ("a status line", "HTTP/1.1 200 ", "OKOKOKOK"),
];
/// Asked for at a time.
const MANY: usize = 50;
const KIB: usize = 1 << 10;

/// Answers `/endless/N` so, for as long as that is taken, and everything else well.
struct Endless {
    address: SocketAddr,
    /// Connections on which it still has something to say.
    talking: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Endless {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let talking = Arc::<AtomicUsize>::default();
        let shared = Arc::clone(&talking);
        let task = serve(listener, move |stream| converse(stream, Arc::clone(&shared)));
        Self { address, talking, task }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, talking: Arc<AtomicUsize>) {
    let mut raw = Raw::from(stream);
    while let Some(head) = raw.request().await {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let Some(n) = path.strip_prefix("/endless/").and_then(|n| n.parse::<usize>().ok()) else {
            raw.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").await;
            continue;
        };
        let (_, begin, piece) = ENDLESS[n];
        talking.fetch_add(1, Ordering::SeqCst);
        let mut taken = raw.stream.write_all(begin.as_bytes()).await;
        let pieces = piece.repeat(4 * KIB / piece.len());
        while taken.is_ok() {
            taken = raw.stream.write_all(pieces.as_bytes()).await;
        }
        talking.fetch_sub(1, Ordering::SeqCst);
        return;
    }
}

/// A 502, or an end that nobody takes for that of a whole answer; nothing of the bad one.
async fn ask(address: SocketAddr, n: usize) {
    let (what, _, piece) = ENDLESS[n];
    let mut raw = Raw::connect(address).await;
    raw.send(format!("GET /endless/{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
    let (bytes, end) = raw.rest_and_end().await;
    let text = String::from_utf8_lossy(&bytes);
    let last = text.rfind("HTTP/1.1 ").map_or("", |at| &text[at..]);
    match last.starts_with("HTTP/1.1 502 ") {
        true => assert!(last.contains("outrigger: upstream_protocol: "), "{what}: {last}"),
        false => assert!(end.is_err(), "{what}: {last}"),
    }
    assert!(what == "interim answers" || !text.contains(piece), "{what}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_without_end_are_cut_and_cost_little_memory() {
    let endless = Endless::start().await;
    // It is the only backend, and is to stay.
    let rules = "[clusters.api.outlier]\nenabled = false";
    let sidecar = Sidecar::ready(&config(&[endless.address], rules)).await;
    let good = Load::start(sidecar.web(), 4, 100);
    sleep(millis(500)).await;
    let before = sidecar.process.memory();
    for (n, (what, ..)) in ENDLESS.iter().enumerate() {
        let mut asking = JoinSet::new();
        for _ in 0..MANY {
            asking.spawn(ask(sidecar.web(), n));
        }
        let (peak, _) = sidecar.process.peak_memory(asking.join_all()).await;
        let each = peak.saturating_sub(before) / MANY / KIB;
        println!("{what}: {each} KiB each");
        assert!(each < 256, "{what}: {each} KiB each");
        eventually(&format!("{what}: the connections are closed"), secs(5), || async {
            (endless.talking.load(Ordering::SeqCst) == 0).then_some(())
        })
        .await;
    }
    let good = good.stop().await;
    good.assert_no_failures();
    assert!(good.total() > 50, "{}", good.total());
}

/// As soon as those who answer with 500.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_does_not_speak_http_is_ejected() {
    let garbage = outrigger_tests::backend::RawBackend::answering(
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        false,
    )
    .await;
    let good = [Backend::start().await, Backend::start().await, Backend::start().await];
    let mut addresses = good.each_ref().map(|backend| backend.address).to_vec();
    addresses.push(garbage.address);
    let config = config(&addresses, "") + "[runtime]\nworkers = 2\n";
    let sidecar = Sidecar::ready(&config).await;
    let load = Load::start(sidecar.web(), 8, 400);
    sidecar.until_state("api", &garbage.address.to_string(), "ejected", secs(5)).await;
    sleep(secs(1)).await;
    let tally = load.stop().await;
    // Five for each worker, and what was in flight.
    assert!((5..=5 * 2 + 8).contains(&tally.failures.len()), "{:?}", tally.failures);
    let expected = "502 Bad Gateway Some(\"upstream_protocol\")";
    assert!(tally.failures.iter().all(|(_, failure)| failure == expected), "{:?}", tally.failures);
}
