//! From a request of HTTP/2 to the service that it is for: whom it is from is known by then, and
//! whether there is room for it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_proto::v1;
use outrigger_proto::v1::control_service_server::ControlServiceServer;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;
use tower::util::BoxCloneSyncService;

use super::caller::{Access, Peer};
use super::tokens::Tokens;
use super::{Control, error, health, service};
use crate::config;

/// Bytes of a message.
const MESSAGE: usize = 4 << 20;
/// What orchestrators ask, who have no token.
const PUBLIC: &str = "/grpc.health.v1.Health/Check";
/// Of the name of a method so much is logged.
const METHOD: usize = 100;
/// Refused callers are written down no faster than this.
const REFUSALS: Duration = Duration::from_secs(1);

type Boxed = BoxCloneSyncService<Request<Incoming>, Response<Body>, Infallible>;

/// All that is served, by name.
#[derive(Debug)]
pub struct Services {
    control: Arc<Control>,
    access: Access,
    services: Vec<(&'static str, Boxed)>,
    refusals: Refusals,
}

impl Services {
    pub fn new(
        control: &Arc<Control>,
        settings: &config::Control,
        tokens: Option<Arc<Tokens>>,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let access = Access::new(settings, tokens);
        let reflection = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // What the details of errors are.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let of_control = ControlServiceServer::new(service::Service(Arc::clone(control)));
        let of_health = HealthServer::new(health::Judge(Arc::clone(control)));
        let services = vec![
            boxed(of_control.max_decoding_message_size(MESSAGE)),
            boxed(of_health.max_decoding_message_size(MESSAGE)),
            boxed(reflection().build_v1()?.max_decoding_message_size(MESSAGE)),
            boxed(reflection().build_v1alpha()?.max_decoding_message_size(MESSAGE)),
        ];
        Ok(Self { control: Arc::clone(control), access, services, refusals: Refusals::default() })
    }

    /// `open` is kept until all of the answer is sent.
    pub(super) async fn answer<G: Send + 'static>(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        open: G,
    ) -> Response<Body> {
        if !is_grpc(&request) {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return answer;
        }
        let method = error::shorten(request.uri().path().into(), METHOD);
        let answer = match self.serve(request, peer, open).await {
            Ok(answer) => answer,
            Err(status) => status.into_http(),
        };
        let Some(status) = Status::from_header_map(answer.headers()) else { return answer };
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                self.refusals.note(peer, &method, status.message());
                answer
            }
            // The library's word for a message that is too large; everybody else says it so.
            Code::OutOfRange => {
                let why = format!("a message has more than {MESSAGE} bytes");
                error::full("message", why).into_http()
            }
            _ => answer,
        }
    }

    async fn serve<G: Send + 'static>(
        &self,
        mut request: Request<Incoming>,
        peer: &Peer,
        open: G,
    ) -> Result<Response<Body>, Status> {
        self.access.admits(peer, &request)?;
        if request.uri().path() != PUBLIC {
            let caller = self.access.identify(peer, request.headers())?;
            request.extensions_mut().insert(caller);
        }
        if self.control.is_stopping() {
            return Err(error::stopping());
        }
        let mut service = self.service(request.uri().path())?;
        let Ok(room) = Arc::clone(&self.control.streams).try_acquire_owned() else {
            return Err(error::full("streams", "as many calls are open as may be".into()));
        };
        let Ok(answer) = service.call(request).await;
        let held = (open, room);
        Ok(answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _ = &held;
                frame
            }))
        }))
    }

    /// The service of `/NAME/METHOD`.
    fn service(&self, path: &str) -> Result<Boxed, Status> {
        let named = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let found = named.and_then(|(wanted, _)| {
            self.services
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, service)| service.clone())
        });
        found.ok_or_else(|| Status::unimplemented("there is no such service"))
    }
}

/// Pages of other sites may have a browser send what is text or a form, and ask nobody; this they may
/// not.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn boxed<S>(service: S) -> (&'static str, Boxed)
where
    S: NamedService
        + Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    (S::NAME, BoxCloneSyncService::new(service))
}

/// Refused callers, for the log: whoever tries ten thousand tokens does not fill it.
#[derive(Debug, Default)]
struct Refusals(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    /// Since then.
    unsaid: u64,
}

impl Refusals {
    fn note(&self, peer: &Peer, method: &str, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &mut *last {
            Some(said) if now < said.at + REFUSALS => said.unsaid += 1,
            said => {
                let unsaid = said.as_ref().map_or(0, |said| said.unsaid);
                *said = Some(Said { at: now, unsaid: 0 });
                tracing::warn!(caller = %peer.shown(), method, unsaid, "control: refused: {why}");
            }
        }
    }
}
