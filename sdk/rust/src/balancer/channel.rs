//! gRPC without the hop.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower_service::Service;

use crate::affinity::AFFINITY_HEADER;
use crate::connect::endpoint;
use crate::report::Outcome;

use super::{Balancer, Pick};

/// A channel for any tonic client, in place of tonic's own, each of whose calls goes to the backend that
/// the [`Balancer`] picks for it, by the key in its [`AFFINITY_HEADER`] if it has one. How it ended is
/// reported.
///
/// Backends are called in plain text. A call is not tried again elsewhere; it is UNAVAILABLE if nobody
/// may be picked.
#[derive(Debug, Clone)]
pub struct BalancedChannel {
    balancer: Balancer,
}

impl BalancedChannel {
    pub(super) fn new(balancer: Balancer) -> Self {
        Self { balancer }
    }
}

impl Service<Request<Body>> for BalancedChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Whether it can be sent is known once it is known where to.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let balancer = self.balancer.clone();
        Box::pin(async move {
            let (request, pick) = picked(&balancer, request).await?;
            let mut channel = connection(&pick)?;
            let sent = Instant::now();
            let answer = send(&mut channel, request).await;
            pick.report(outcome(&answer), Some(sent.elapsed()));
            answer
        })
    }
}

/// Whom a request is for. Its key is not the backends' business.
async fn picked(
    balancer: &Balancer,
    mut request: Request<Body>,
) -> Result<(Request<Body>, Pick), Status> {
    let key = request.headers_mut().remove(AFFINITY_HEADER);
    let pick = match key.as_ref().and_then(|key| str::from_utf8(key.as_bytes()).ok()) {
        Some(key) => balancer.pick_for(key).await,
        None => balancer.pick(),
    };
    let nobody =
        || Status::unavailable(format!("no backend of `{}` may be used", balancer.cluster()));
    Ok((request, pick.ok_or_else(nobody)?))
}

/// The connection to that backend, made with the first request.
fn connection(pick: &Pick) -> Result<Channel, Status> {
    let kept = &pick.member.kept;
    if let Some(channel) = kept.channel.get() {
        return Ok(channel.clone());
    }
    let endpoint =
        endpoint(pick.name(), "http").map_err(|error| Status::internal(error.to_string()))?;
    Ok(kept.channel.get_or_init(|| endpoint.connect_lazy()).clone())
}

async fn send(channel: &mut Channel, request: Request<Body>) -> Result<Response<Body>, Status> {
    let failed = |error| Status::from_error(Box::new(error));
    poll_fn(|context| channel.poll_ready(context)).await.map_err(failed)?;
    channel.call(request).await.map_err(failed)
}

/// What the head of an answer says. A status that comes with the last message is not waited for.
fn outcome(answer: &Result<Response<Body>, Status>) -> Outcome {
    match answer {
        Ok(response) if response.status().is_server_error() => Outcome::Http5xx,
        Ok(response) if response.status() == StatusCode::OK => {
            match Status::from_header_map(response.headers()) {
                Some(status) if is_the_backends_fault(status.code()) => Outcome::GrpcError,
                _ => Outcome::Success,
            }
        }
        Ok(_) => Outcome::Success,
        Err(status) if status.code() == Code::Unavailable => Outcome::ConnectFailed,
        Err(_) => Outcome::Reset,
    }
}

fn is_the_backends_fault(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(code, DataLoss | DeadlineExceeded | Internal | Unavailable | Unknown)
}
