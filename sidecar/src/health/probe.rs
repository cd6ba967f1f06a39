//! One probe of one endpoint.

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::cluster::Endpoint;
use crate::config::{HostPolicy, Probe};
use crate::net::dial;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("outrigger/", env!("CARGO_PKG_VERSION"), " health check"));

/// Runs a probe, over a connection of its own: one from a pool would hide a backend that no
/// longer accepts. The error says what is wrong. Takes as long as the backend does.
pub async fn run(probe: &Probe, endpoint: &Endpoint, host: &HostPolicy) -> Result<(), String> {
    let stream = dial::connect(&endpoint.address, None)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    match probe {
        Probe::Tcp => Ok(()),
        Probe::Http { path, expect_status } => {
            let request = Request::builder()
                .method(Method::GET)
                .uri(path.clone())
                .header(HOST, probe_host(endpoint, host))
                .header(USER_AGENT, AGENT)
                .header(CONNECTION, "close")
                .body(Empty::<Bytes>::new())
                .map_err(|error| error.to_string())?;
            let status = status(stream, request).await.map_err(|error| describe(&error))?;
            let expected = expect_status.iter().any(|range| range.contains(&status.as_u16()));
            if expected { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
        }
    }
}

/// The final status of the answer. Its body is not read.
async fn status(
    stream: dial::Stream,
    request: Request<Empty<Bytes>>,
) -> Result<StatusCode, hyper::Error> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(64 << 10).handshake(TokioIo::new(stream)).await?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer.map(|response| response.status()),
        // An answer may have been read before the connection ended.
        ended = &mut connection => match ended {
            Ok(()) => answer.await.map(|response| response.status()),
            Err(error) => Err(error),
        },
    }
}

/// There is no request whose Host could be kept.
fn probe_host(endpoint: &Endpoint, host: &HostPolicy) -> HeaderValue {
    match host {
        HostPolicy::Literal(literal) => literal.clone(),
        HostPolicy::Auto | HostPolicy::Preserve | HostPolicy::Target => endpoint.host(),
    }
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
