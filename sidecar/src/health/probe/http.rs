//! `http`: one request over HTTP/1.1, and the conditions of its answer.

use std::time::Duration;

use futures_util::TryFutureExt;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{AGENT, At, answer, connect, describe, over};
use crate::config::HttpProbe;

/// The longest head of an answer that is read.
const MAX_HEAD: usize = 64 << 10;
/// The longest body that is judged: a page about health is short.
const MAX_BODY: usize = 64 << 10;

pub(super) async fn run(
    at: At<'_>,
    host: HeaderValue,
    probe: &HttpProbe,
) -> Result<Duration, String> {
    let request = request(probe, host)?;
    let stream = TokioIo::new(connect(at).await?);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(stream)
        .await
        .map_err(|error| describe(&error))?;
    over(connection.map_err(|error| describe(&error)), ask(sender, request, probe)).await
}

fn request(probe: &HttpProbe, host: HeaderValue) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::builder()
        .method(probe.method.clone())
        .uri(probe.path.clone())
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    // Those of the configuration win.
    request.headers_mut().extend(probe.headers.clone());
    Ok(request)
}

/// Sends the request and judges the answer. Its body is read only where it matters, and
/// redirects are answers like any other.
async fn ask(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    probe: &HttpProbe,
) -> Result<Duration, String> {
    let asked = Instant::now();
    let answer = sender.send_request(request).await.map_err(|error| describe(&error))?;
    let round_trip = asked.elapsed();
    answer::status(probe, answer.status())?;
    if probe.expect_body.is_some() || !probe.expect_json.is_empty() {
        answer::body(probe, &whole(answer.into_body()).await?)?;
    }
    Ok(round_trip)
}

async fn whole(body: Incoming) -> Result<Bytes, String> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(format!("body is above {} KiB", MAX_BODY >> 10))
        }
        Err(error) => Err(format!("body: {}", describe(&*error))),
    }
}
