//! `grpc`: `grpc.health.v1.Health/Check` over HTTP/2 without TLS.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::TryFutureExt;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{AGENT, At, connect, describe, over};

/// An answer is a few bytes; what else may be in it is of no interest.
const MAX_ANSWER: usize = 4 << 10;

pub(super) async fn run(at: At<'_>, host: HeaderValue, service: &str) -> Result<Duration, String> {
    let origin = Uri::builder()
        .scheme("http")
        .authority(host.as_bytes())
        .path_and_query("/")
        .build()
        .map_err(|error| format!("host {host:?}: {error}"))?;
    let stream = TokioIo::new(connect(at).await?);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(stream)
        .await
        .map_err(|error| broken(&error))?;
    let client = HealthClient::with_origin(Requests(sender), origin);
    let client = client.max_decoding_message_size(MAX_ANSWER);
    over(connection.map_err(|error| broken(&error)), ask(client, service)).await
}

async fn ask(mut client: HealthClient<Requests>, service: &str) -> Result<Duration, String> {
    let asked = Instant::now();
    let answer = client.check(HealthCheckRequest { service: service.into() }).await;
    let round_trip = asked.elapsed();
    let answer = answer.map_err(|status| failure(&status))?.into_inner();
    match ServingStatus::try_from(answer.status) {
        Ok(ServingStatus::Serving) => Ok(round_trip),
        Ok(other) => Err(other.as_str_name().into()),
        Err(_) => Err(format!("serving status {}", answer.status)),
    }
}

/// Why there is no answer: the backend's own words, or what became of the connection.
fn failure(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(error) => broken(error),
        None => format!("{}: {}", name(status.code()), status.message()),
    }
}

/// What a backend that speaks something else causes names the protocol that it should speak.
fn broken(error: &dyn std::error::Error) -> String {
    format!("HTTP/2: {}", describe(error))
}

/// As the specification has it, `DEADLINE_EXCEEDED`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// One connection, in the form that tonic's clients want.
struct Requests(SendRequest<Body>);

impl Service<Request<Body>> for Requests {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, AGENT);
        Box::pin(self.0.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_specification() {
        assert_eq!(name(Code::Ok), "OK");
        assert_eq!(name(Code::NotFound), "NOT_FOUND");
        assert_eq!(name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}
