//! One probe of one endpoint.
//!
//! Each kind has a file; [`answer`] judges what an HTTP backend said. A probe opens a connection
//! of its own: one from a pool would hide a backend that no longer accepts.

mod answer;
mod grpc;
mod http;
mod tcp;
mod udp;

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::HeaderValue;

use crate::cluster::Endpoint;
use crate::config::{self, Health, Probe};
use crate::net::Address;
use crate::net::dial::{self, Opening, Patience};
use crate::net::tls::client::Client;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("outrigger/", env!("CARGO_PKG_VERSION"), " health check"));

/// Runs a probe, and says how long its round trip took: from request to answer, of `tcp` to the
/// connection. The error says what is wrong. Takes as long as the backend does.
pub async fn run(
    health: &Health,
    endpoint: &Endpoint,
    cluster: &config::Cluster,
    tls: Option<&Client>,
) -> Result<Duration, String> {
    let endpoint = probed(endpoint, health.port)?;
    let own = endpoint.host();
    let name = cluster.host.of(&own).to_str().unwrap_or_default();
    // A probe is of nobody but ourselves.
    let header = cluster.proxy_protocol.map(|version| version.header(None)).unwrap_or_default();
    let opening = Opening {
        // The probe as a whole has a limit.
        timeout: None,
        patience: Some(Patience::Short),
        header: &header,
        tls: tls.map(|client| (client, name)),
    };
    let at = At { address: &endpoint.address, opening };
    let host = || health.host.clone().unwrap_or_else(|| cluster.host.of(&own).clone());
    match &health.probe {
        Probe::Tcp => tcp::run(at).await,
        Probe::Udp(probe) => {
            let wait = udp::LONGEST_SILENCE.min(health.timeout / 2);
            udp::run(socket_address(&endpoint.address)?, probe, wait).await
        }
        Probe::Http(probe) => http::run(at, host(), probe).await,
        Probe::Grpc { service } => grpc::run(at, host(), service).await,
    }
}

/// Whom a probe connects to, and how.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    address: &'a Address,
    opening: Opening<'a>,
}

/// The endpoint at the port that is asked.
fn probed(endpoint: &Endpoint, port: Option<u16>) -> Result<Cow<'_, Endpoint>, String> {
    let Some(port) = port else { return Ok(Cow::Borrowed(endpoint)) };
    let mut address = socket_address(&endpoint.address)?;
    address.set_port(port);
    Ok(Cow::Owned(Endpoint { address: Address::Tcp(address), ..endpoint.clone() }))
}

fn socket_address(address: &Address) -> Result<SocketAddr, String> {
    match address {
        Address::Tcp(address) => Ok(*address),
        Address::Unix(_) => Err("a unix socket has no port to probe".into()),
    }
}

async fn connect(at: At<'_>) -> Result<dial::Stream, String> {
    dial::open(at.address, at.opening).await.map_err(|error| format!("connect: {error}"))
}

/// What `work` gives, which needs the connection to be driven, or why the connection failed.
async fn over<T>(
    connection: impl Future<Output = Result<(), String>>,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::pin!(connection, work);
    tokio::select! {
        biased;
        done = &mut work => done,
        // An answer may have been read before the connection ended.
        ended = &mut connection => match ended {
            Ok(()) => work.await,
            Err(error) => Err(error),
        },
    }
}

/// An error and what is behind it.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// The beginning of what a backend said, fit for a line of text.
fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 60;
    match bytes.get(..LONGEST) {
        Some(beginning) => format!("\"{}…\"", beginning.escape_ascii()),
        None => format!("\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, target: Option<&str>) -> Endpoint {
        let address = address.parse().unwrap();
        Endpoint { target: target.map(Into::into), ..Endpoint::new(address) }
    }

    #[test]
    fn a_port_of_its_own_is_asked_and_named() {
        let named = endpoint("10.0.0.1:80", Some("a.internal"));
        let probed_at = probed(&named, Some(8081)).unwrap();
        assert_eq!(probed_at.address.to_string(), "10.0.0.1:8081");
        assert_eq!(probed_at.host(), "a.internal:8081");
        assert_eq!(probed(&named, None).unwrap().host(), "a.internal");
        let unix = endpoint("unix:/run/a.sock", None);
        assert!(probed(&unix, None).is_ok());
        assert_eq!(probed(&unix, Some(80)).unwrap_err(), "a unix socket has no port to probe");
    }

    #[test]
    fn excerpts_are_short_and_printable() {
        assert_eq!(excerpt(b"ok\n\x1b[2J"), r#""ok\n\x1b[2J""#);
        assert_eq!(excerpt(&[b'a'; 1000]), format!("\"{}…\"", "a".repeat(60)));
    }
}
