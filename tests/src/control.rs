//! A caller of the control API: one connection, and what every call of it says of the caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_proto::v1;
use outrigger_proto::v1::control_service_client::ControlServiceClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::Streaming;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::health_client::HealthClient;

use crate::sidecar::Sidecar;

/// What the caller takes of an answer before it reads it: little, so that who does not read is soon
/// waited for.
const WINDOW: u32 = 64 << 10;

/// Clones are of one connection, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct Caller {
    requests: SendRequest<Body>,
    origin: Uri,
    authorization: Option<HeaderValue>,
}

impl Caller {
    /// Connects to the control API of this sidecar.
    pub async fn of(sidecar: &Sidecar) -> Self {
        Self::at(&sidecar.control).await
    }

    /// Connects to an address as the sidecar's configuration has it.
    pub async fn at(address: &str) -> Self {
        match address.strip_prefix("unix:") {
            Some(path) => Self::over(UnixStream::connect(path).await.expect("it listens")).await,
            None => Self::over(TcpStream::connect(address).await.expect("it listens")).await,
        }
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let connecting = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .handshake(TokioIo::new(stream));
        let (requests, connection) = connecting.await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        Self { requests, origin: Uri::from_static("http://localhost"), authorization: None }
    }

    /// The same, with this token.
    pub fn with_token(self, token: &str) -> Self {
        let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        Self { authorization: Some(value), ..self }
    }

    /// The same, but that it says it wants somebody else.
    pub fn wanting(self, authority: &str) -> Self {
        Self { origin: format!("http://{authority}").parse().unwrap(), ..self }
    }

    pub fn control(&self) -> ControlServiceClient<Self> {
        ControlServiceClient::with_origin(self.clone(), self.origin.clone())
    }

    pub fn health(&self) -> HealthClient<Self> {
        HealthClient::with_origin(self.clone(), self.origin.clone())
    }

    /// Watches the cluster `api`, from the beginning.
    pub async fn watch(&self) -> Result<Streaming<v1::WatchClusterResponse>, tonic::Status> {
        let request = v1::WatchClusterRequest { cluster: "api".into(), ..Default::default() };
        self.control().watch_cluster(request).await.map(tonic::Response::into_inner)
    }
}

impl Service<Request<Body>> for Caller {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Box::pin(self.requests.send_request(request))
    }
}
