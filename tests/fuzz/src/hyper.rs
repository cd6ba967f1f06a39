//! The same bytes as hyper reads them.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::{client, server, service};

use crate::message::{Fields, Head, Message, place};

/// What there is to read, in memory; what is written is dropped.
#[derive(Debug)]
struct Wire<'a> {
    coming: &'a [u8],
    /// Whether it stays open after the last byte.
    open: bool,
    /// Who waits for what only comes once something is written.
    waiting: Option<Waker>,
    held_back: bool,
}

impl<'a> Wire<'a> {
    fn new(coming: &'a [u8], open: bool) -> Self {
        Self { coming, open, waiting: None, held_back: false }
    }
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held_back {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (now, later) = self.coming.split_at(self.coming.len().min(buf.remaining()));
        if now.is_empty() && self.open {
            return Poll::Pending;
        }
        buf.put_slice(now);
        self.coming = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held_back = false;
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls for as long as there is something to do; `None` if it then waits for something.
fn run<F: Future>(future: F) -> Option<F::Output> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            return None;
        }
    }
}

/// A message, as far as it came.
#[derive(Debug, Default)]
pub struct Received {
    pub message: Message,
    pub whole: bool,
}

/// The requests of a connection, and the error that it ended with.
#[derive(Debug)]
pub struct Requests {
    pub received: Vec<Received>,
    pub error: Option<hyper::Error>,
}

/// Serves a connection that the client closes after the last byte.
pub fn requests(bytes: &[u8]) -> Requests {
    let received = RefCell::new(Vec::new());
    let record = service::service_fn(async |request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let head = Head {
            first: parts.method.as_str().to_owned(),
            second: target(&parts),
            http10: parts.version == http::Version::HTTP_10,
            fields: fields(&parts.headers),
        };
        let index = received.borrow().len();
        received.borrow_mut().push(Received::default());
        received.borrow_mut()[index].message.head = head;
        collect(body, |change| change(&mut received.borrow_mut()[index])).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let connection = server::conn::http1::Builder::new()
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(Wire::new(bytes, false), record);
    let ended = run(connection).expect("hyper waits for what cannot come");
    Requests { received: received.into_inner(), error: ended.err() }
}

fn target(parts: &http::request::Parts) -> String {
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get("host").and_then(|host| host.to_str().ok()),
    };
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    place(host, parts.uri.path(), &query)
}

fn fields(map: &HeaderMap) -> Fields {
    Fields::new(map.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())))
}

async fn collect(mut body: Incoming, record: impl Fn(&dyn Fn(&mut Received))) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return };
        record(&|received| match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => received.message.body.0.extend_from_slice(data),
            (_, Some(trailers)) => {
                let fields = trailers.iter();
                received.message.trailers =
                    Fields::trailers(fields.map(|(name, value)| (name.as_ref(), value.as_bytes())));
            }
            (None, None) => {}
        });
    }
    record(&|received| received.whole = true);
}

/// What became of a request.
#[derive(Debug)]
pub struct Answer {
    pub received: Option<Received>,
    /// Whether hyper waits for more of the answer.
    pub waiting: bool,
    /// Whether it would send another request on the same connection.
    pub reusable: bool,
}

/// Reads the answer to a GET or a HEAD; the connection stays `open` after the last byte, or not.
pub fn answer(bytes: &[u8], to_head: bool, open: bool) -> Answer {
    // An answer that comes before its request is refused.
    let wire = Wire { held_back: true, ..Wire::new(bytes, open) };
    let handshake = client::conn::http1::handshake(wire);
    let (mut sender, connection) =
        run(handshake).and_then(Result::ok).expect("a handshake is nothing but memory");
    let received = RefCell::new(None);
    let method = if to_head { "HEAD" } else { "GET" };
    let request = Request::builder().method(method).uri("/").header("host", "a");
    let request = request.body(Empty::<Bytes>::new()).expect("a request");

    let mut connection = pin!(connection);
    let mut connected = true;
    let mut finished = false;
    {
        let mut exchange = pin!(async {
            let Ok(response) = sender.send_request(request).await else { return };
            let (parts, body) = response.into_parts();
            let message = Message { head: response_head(&parts), ..Message::default() };
            *received.borrow_mut() = Some(Received { message, whole: false });
            collect(body, |change| received.borrow_mut().iter_mut().for_each(change)).await;
        });
        run(std::future::poll_fn(|cx| {
            finished = finished || exchange.as_mut().poll(cx).is_ready();
            connected = connected && connection.as_mut().poll(cx).is_pending();
            Poll::<()>::Pending
        }));
    }
    let reusable = connected && sender.is_ready();
    Answer { received: received.into_inner(), waiting: !finished, reusable }
}

fn response_head(parts: &http::response::Parts) -> Head {
    let reason = match parts.extensions.get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => String::from_utf8_lossy(reason.as_bytes()).into_owned(),
        None => parts.status.canonical_reason().unwrap_or_default().to_owned(),
    };
    Head {
        first: parts.status.as_str().to_owned(),
        second: reason,
        http10: parts.version == http::Version::HTTP_10,
        fields: fields(&parts.headers),
    }
}
