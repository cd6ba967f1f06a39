//! A plain HTTP client: one request, or one connection with many.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// An open connection.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, address })
    }

    /// Sends a request whole and reads its answer whole.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Error> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }

    pub async fn get(&mut self, path: &str) -> Result<Response<Bytes>, Error> {
        let request = request("GET", path, self.address).body(Full::default())?;
        self.send(request).await
    }

    /// Whether the connection can take another request.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// A request with the Host that it needs.
pub fn request(method: &str, path: &str, address: SocketAddr) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("host", address.to_string())
}

/// One GET over a connection of its own: status and body.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, String), Error> {
    let response = Client::connect(address).await?.get(path).await?;
    Ok((response.status().as_u16(), String::from_utf8_lossy(response.body()).into_owned()))
}
