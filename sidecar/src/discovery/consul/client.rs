//! One question to Consul's HTTP API.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::config::{self, ConsulAddress};
use crate::net::tls::{TlsError, client};
use crate::net::{Address, dial};

/// Largest answer that is read.
const MAX_BODY: usize = 16 << 20;
/// How long a connection may take to open, its handshake included.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take that waits for nothing.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ConsulError {
    /// Nobody takes a connection: asking again costs next to nothing.
    #[error("Consul at {address}: {error}")]
    Unreachable { address: String, error: String },
    #[error("Consul: no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    #[error("Consul: {0}")]
    Broken(String),
    #[error("Consul: {status}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Refused { status: StatusCode, message: String, retry_after: Option<Duration> },
    /// It answers, and must not be believed.
    #[error("Consul: {0}")]
    Doubtful(String),
}

/// An answer that is to be looked at: 200, or 404 where that says "none".
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) found: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Where Consul is, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Client {
    address: ConsulAddress,
    tls: Option<Arc<ClientConfig>>,
}

/// An open connection; its driver ends with it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// With its query.
    pub(super) path: &'a str,
    pub(super) token: Option<Arc<str>>,
    pub(super) body: Bytes,
    /// How long Consul may wait for news; none: not at all.
    pub(super) wait: Option<Duration>,
}

impl<'a> Question<'a> {
    pub(super) fn get(path: &'a str, token: Option<Arc<str>>, wait: Option<Duration>) -> Self {
        Self { method: Method::GET, path, token, body: Bytes::new(), wait }
    }
}

impl Client {
    pub(super) fn new(config: &config::Consul) -> Result<Self, TlsError> {
        let address = config.address.clone();
        let settings = client::Settings { ca_file: config.ca_file.clone(), ..Default::default() };
        let tls = address.tls.then(|| settings.load()).transpose()?;
        Ok(Self { address, tls })
    }

    /// Asks over the connection that is kept in `kept`, or over a new one, which is kept there.
    pub(super) async fn ask(
        &self,
        kept: &mut Option<Connection>,
        question: Question<'_>,
    ) -> Result<Reply, ConsulError> {
        // Consul spreads the ends of waits over a sixteenth more (its documentation, "Blocking
        // Queries").
        let patience = question.wait.map_or(TIMEOUT, |wait| wait + wait / 16 + TIMEOUT / 2);
        let asked = async {
            let mut connection = match kept.take().filter(|kept| kept.sender.is_ready()) {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let reply = connection.send(&self.address, question).await?;
            *kept = Some(connection);
            Ok(reply)
        };
        tokio::time::timeout(patience, asked).await.unwrap_or(Err(ConsulError::Timeout(patience)))
    }

    async fn connect(&self) -> Result<Connection, ConsulError> {
        let connecting = async {
            let stream = self.dial().await?;
            match &self.tls {
                None => Connection::over(stream).await,
                Some(tls) => {
                    let name = ServerName::try_from(self.address.host.clone());
                    let name = name.map_err(|e| e.to_string())?;
                    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
                    Connection::over(stream.map_err(|e| e.to_string())?).await
                }
            }
        };
        let done = tokio::time::timeout(CONNECT, connecting).await;
        done.unwrap_or(Err("it does not accept".into())).map_err(|error| {
            let address = format!("{}:{}", self.address.host, self.address.port);
            ConsulError::Unreachable { address, error }
        })
    }

    async fn dial(&self) -> Result<dial::Stream, String> {
        let ConsulAddress { host, port, .. } = &self.address;
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await;
        let mut failed = "its name has no address".to_owned();
        for address in addresses.map_err(|e| e.to_string())? {
            match dial::connect(&Address::Tcp(address), Some(CONNECT), dial::Patience::Short).await
            {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error.to_string(),
            }
        }
        Err(failed)
    }
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|e| e.to_string())?;
        let driver = tokio::spawn(async move {
            // How it ended is seen by whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    async fn send(
        &mut self,
        address: &ConsulAddress,
        question: Question<'_>,
    ) -> Result<Reply, ConsulError> {
        let broken = |e: &dyn std::fmt::Display| ConsulError::Broken(e.to_string());
        let mut request = Request::builder()
            .method(question.method)
            .uri(question.path)
            .header(HOST, format!("{}:{}", address.host, address.port));
        if let Some(token) = &question.token {
            request = request.header("x-consul-token", &**token);
        }
        let request = request.body(Full::new(question.body)).map_err(|e| broken(&e))?;
        let response = self.sender.send_request(request).await.map_err(|e| broken(&e))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| broken(&e))?.to_bytes();
        match head.status {
            StatusCode::OK | StatusCode::NOT_FOUND => {
                let found = head.status == StatusCode::OK;
                Ok(Reply { found, headers: head.headers, body })
            }
            status => {
                let said = String::from_utf8_lossy(&body);
                let message = said.chars().filter(|c| !c.is_control()).take(200).collect();
                let retry_after = head.headers.get(RETRY_AFTER);
                let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
                let retry_after = seconds.map(Duration::from_secs);
                Err(ConsulError::Refused { status, message, retry_after })
            }
        }
    }
}
