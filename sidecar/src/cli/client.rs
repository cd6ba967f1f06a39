//! Speaking to the admin API of a running sidecar.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Failure, block_on};
use crate::config::{load, load_defaults};
use crate::net::{Address, dial};

/// How long a sidecar may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// Where the sidecar is.
#[derive(Debug, Args)]
pub(super) struct AdminArg {
    /// Admin API: host:port or unix:/path; else it is taken from the environment or the file
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Configuration file of the sidecar
    #[arg(short, long = "config", env = "OUTRIGGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl AdminArg {
    /// The body of a page.
    pub(super) fn get(&self, path: &str) -> Result<Bytes, Failure> {
        let address = self.address()?;
        block_on(async {
            let answer = tokio::time::timeout(TIMEOUT, fetch(&address, path)).await;
            let unreachable = |why: &dyn std::fmt::Display| {
                Failure::Unreachable(format!("no sidecar answers at {address}: {why}"))
            };
            match answer {
                Ok(Ok((StatusCode::OK, body))) => Ok(body),
                Ok(Ok((status, body))) => {
                    let body = String::from_utf8_lossy(&body).trim().escape_default().to_string();
                    Err(Failure::Failed(format!("{address} says {status}: {body}")))
                }
                Ok(Err(error)) => Err(unreachable(&error)),
                Err(_) => Err(unreachable(&"it takes too long")),
            }
        })
    }

    /// The flag, else the environment, else the file, else the default. A wildcard address is
    /// reached over loopback.
    fn address(&self) -> Result<Address, Failure> {
        if let Some(text) = &self.admin {
            let text = text.replace("localhost:", "127.0.0.1:");
            let wrong = |_| Failure::Failed(format!("--admin {text}: want ip:port or unix:/path"));
            return text.parse().map(reachable).map_err(wrong);
        }
        // The environment overrides the file, so loading the file sees both.
        let loaded = match &self.config {
            Some(path) => load(path),
            None => load_defaults(),
        };
        loaded.map(|loaded| reachable(loaded.config.admin.listen)).map_err(Failure::Config)
    }
}

fn reachable(address: Address) -> Address {
    match address {
        Address::Tcp(tcp) if tcp.ip().is_unspecified() => {
            let loopback = if tcp.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            };
            Address::Tcp(std::net::SocketAddr::new(loopback, tcp.port()))
        }
        other => other,
    }
}

async fn fetch(
    address: &Address,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = dial::connect(address, Some(TIMEOUT)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
