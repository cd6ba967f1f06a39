//! One connection of the app, from accept to close.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::downstream::{Downstream, Io, Overdue};
use super::exchange::{Site, exchange};
use super::reply;
use crate::net::dial::Stream;
use crate::proxy::timer::Timers;

/// Largest head, in bytes and in fields; above it hyper answers 431.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 100;

/// How much of what the app still sends is read, and for how long, after we are done with it:
/// closing over unread bytes makes the kernel reset the connection, and the app would lose the
/// answer that it has not read yet.
const LINGER_BYTES: usize = 256 << 10;
const LINGER: Duration = Duration::from_secs(2);

/// Why the serving of a connection ended.
enum End {
    /// hyper is done with it.
    Served,
    /// The app speaks HTTP/2, which hyper leaves unanswered.
    Http2,
    /// It was idle, and the sidecar is stopping.
    Stopping,
    Overdue(Overdue),
}

/// Serves the connection until either side closes it. `closing` says that idle connections are
/// to be closed; whoever sets it wakes all timers.
pub(crate) async fn serve(
    stream: Stream,
    peer: Option<IpAddr>,
    site: Rc<Site>,
    timers: &Rc<Timers>,
    closing: &Cell<bool>,
) {
    let downstream = Downstream::new(peer, site.timeouts, timers);
    let io = Io { stream, downstream: Rc::clone(&downstream) };
    let service = {
        let downstream = Rc::clone(&downstream);
        service_fn(move |request| exchange(Rc::clone(&site), Rc::clone(&downstream), request))
    };
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(io), service);
    let mut told_to_close = false;
    let end = poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            let http2 = ended.is_err_and(|error| error.is_parse_version_h2());
            return Poll::Ready(if http2 { End::Http2 } else { End::Served });
        }
        // Only now, when all that has arrived was read: a request that is here is answered.
        if closing.get() && !told_to_close {
            told_to_close = true;
            Pin::new(&mut connection).graceful_shutdown();
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(End::Stopping);
            }
        }
        downstream.overdue(cx).map(End::Overdue)
    })
    .await;
    let io = connection.into_parts().io.into_inner();
    close(io, &end).await;
}

async fn close(mut io: Io, end: &End) {
    let downstream = Rc::clone(&io.downstream);
    match end {
        End::Overdue(Overdue::WriteStall) => io.reset_on_close(),
        _ if downstream.truncated.get() => io.reset_on_close(),
        End::Overdue(Overdue::Idle) | End::Stopping => {}
        End::Overdue(Overdue::Head) => {
            let _ = timeout(LINGER, io.write_all(reply::HEAD_TIMEOUT)).await;
            linger(io).await;
        }
        End::Http2 => {
            let _ = timeout(LINGER, io.write_all(reply::HTTP2)).await;
            linger(io).await;
        }
        End::Served if downstream.ended.get() => {}
        End::Served => linger(io).await,
    }
}

/// Says that no more will come, and reads what the app has still under way.
async fn linger(mut io: Io) {
    let drain = async {
        // hyper has done so already where it ended the connection itself.
        let _ = io.shutdown().await;
        let mut scrap = [0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match io.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(LINGER, drain).await;
}
