//! Backends with work that lasts, and apps that watch how it ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use outrigger_tests::backend::{Backend, X_BACKEND, full};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::{eventually, millis, secs};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// A backend that takes ten seconds for `/download` and one for `/slow`, and what it was asked
/// for, and when.
pub struct Worker {
    pub backend: Backend,
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Worker {
    pub async fn start() -> Self {
        Self::start_at([127, 0, 0, 1]).await
    }

    pub async fn start_at(ip: [u8; 4]) -> Self {
        let asked = Arc::<Mutex<Vec<(Instant, String)>>>::default();
        let heard = Arc::clone(&asked);
        let backend = Backend::serving((ip, 0).into(), move |request| {
            let path = request.uri().path().to_owned();
            heard.lock().unwrap().push((Instant::now(), path.clone()));
            async move {
                match &*path {
                    "/download" => Response::new(StreamBody::new(pieces()).boxed()),
                    "/slow" => {
                        sleep(secs(1)).await;
                        Response::new(full("late"))
                    }
                    _ => Response::new(full("hello\n")),
                }
            }
        })
        .await;
        Self { backend, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.backend.address
    }

    pub fn name(&self) -> String {
        self.backend.name()
    }

    /// How often it was asked for this since then.
    pub fn asked_for(&self, path: &str, since: Instant) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(at, of)| *at > since && of == path).count()
    }
}

/// 200 pieces, one every 50 ms.
fn pieces() -> impl Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> {
    stream::unfold(0, |sent| async move {
        sleep(millis(50)).await;
        (sent < 200).then(|| (Ok(Frame::data(Bytes::from_static(b"piece"))), sent + 1))
    })
}

/// How a download ended.
#[derive(Debug)]
pub struct Download {
    pub at: Instant,
    pub whole: bool,
}

/// Begins a download, and watches it to its end. Returns when its head is here, with the backend
/// that it is from.
pub async fn download(address: SocketAddr, cookie: &str) -> (String, JoinHandle<Download>) {
    let mut app = Raw::connect(address).await;
    app.send(format!("GET /download HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).await;
    let head = app.head().await.expect("it begins");
    assert_eq!(head.status, 200, "{}", head.head);
    let from = head.header(X_BACKEND)[0].to_owned();
    let watched = tokio::spawn(async move {
        let whole = app.chunks().await.is_some();
        Download { at: Instant::now(), whole }
    });
    (from, watched)
}

/// A cookie that keeps its client at this backend.
pub async fn cookie_for(address: SocketAddr, backend: &str) -> String {
    eventually("the backend is picked for a new client", secs(5), || async {
        let answer = exchange(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let cookie = answer.header("set-cookie")[0].split(';').next().unwrap().to_owned();
        (answer.header(X_BACKEND) == [backend]).then_some(cookie)
    })
    .await
}

/// Asks with a cookie: the backend that answered, and the cookie to use from now on.
pub async fn ask(address: SocketAddr, path: &str, cookie: &str) -> (String, Option<String>) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    let answer = exchange(address, request).await;
    assert_eq!(answer.status, 200, "{}", answer.head);
    let set = answer.header("set-cookie").first().map(|set| (*set).to_owned());
    (answer.header(X_BACKEND)[0].to_owned(), set)
}

/// Whether something happened so long after the start, give or take: sooner never, later by what
/// the spread and a busy machine may add.
pub fn assert_after(start: Instant, end: Instant, expected: Duration, later: Duration) {
    let took = end - start;
    let bounds = expected.saturating_sub(millis(300))..=expected + millis(300) + later;
    assert!(bounds.contains(&took), "{took:?} is not in {bounds:?}");
}
