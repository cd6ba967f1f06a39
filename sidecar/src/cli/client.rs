//! Speaking to the admin API of a running sidecar.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::HOST;
use http::request::Builder;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

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
    /// A page.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Request::get(path), Bytes::new())
    }

    /// A page that is no document.
    pub(super) fn text(&self, path: &str) -> Result<String, Failure> {
        let page = self.page(Request::get(path), Bytes::new())?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }

    /// Gives an order; the answer says how things stand after it.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::Failed(e.to_string()))?;
        self.ask(Request::post(path).header("x-outrigger-admin", "1"), body.into())
    }

    fn ask<T: DeserializeOwned>(&self, head: Builder, body: Bytes) -> Result<T, Failure> {
        let page = self.page(head, body)?;
        serde_json::from_slice(&page)
            .map_err(|e| Failure::Failed(format!("the answer is not understood: {e}")))
    }

    fn page(&self, head: Builder, body: Bytes) -> Result<Bytes, Failure> {
        let request = head.header(HOST, "localhost").body(Full::new(body));
        self.exchange(request.map_err(|e| Failure::Failed(e.to_string()))?)
    }

    fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Bytes, Failure> {
        let address = self.address()?;
        block_on(async {
            let answer = tokio::time::timeout(TIMEOUT, fetch(&address, request)).await;
            let unreachable = |why: &dyn std::fmt::Display| {
                Failure::Unreachable(format!("no sidecar answers at {address}: {why}"))
            };
            match answer {
                Ok(Ok((StatusCode::OK, body))) => Ok(body),
                Ok(Ok((status, body))) => Err(Failure::Failed(refusal(status, &body))),
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

/// The message of an error, or else all that was said.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let error = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    match error["error"]["message"].as_str() {
        Some(message) => message.chars().filter(|c| !c.is_control()).collect(),
        None => format!("{status}: {}", String::from_utf8_lossy(body).trim().escape_default()),
    }
}

async fn fetch(
    address: &Address,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = dial::connect(address, Some(TIMEOUT), dial::Patience::Short).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
