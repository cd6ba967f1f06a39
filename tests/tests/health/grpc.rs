//! Probes of kind `grpc`, against the health service that Rust servers have.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use outrigger_tests::backend::{Backend, ByHand, RawBackend, serve};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::{checked, reason, until_probe_says};

struct Server {
    address: SocketAddr,
    reporter: HealthReporter,
    /// Authority and user agent of each request.
    seen: Arc<Mutex<Vec<(String, String)>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let (reporter, service) = health_reporter();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&seen);
        let task = serve(listener, move |stream| {
            let service = TowerToHyperService::new(service.clone());
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: ::http::Request<hyper::body::Incoming>| {
                let authority = request.uri().authority().unwrap().to_string();
                let agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
                kept.lock().unwrap().push((authority, agent));
                hyper::service::Service::call(&service, request)
            });
            async move {
                let serving = http2::Builder::new(TokioExecutor::new());
                let _ = serving.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { address, reporter, seen, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_is_healthy_while_it_says_that_it_serves() {
    let server = Server::start().await;
    server.reporter.set_service_status("api", ServingStatus::Serving).await;
    let keys = "probe = \"grpc\"\nservice = \"api\"\nhost = \"api.internal\"\n\
                interval = \"100ms\"\nrise = 1\nfall = 1";
    let sidecar = Sidecar::ready(&checked(&[server.address], keys)).await;
    let name = server.address.to_string();
    assert_eq!(reason(&sidecar, server.address).await, "");

    server.reporter.set_service_status("api", ServingStatus::NotServing).await;
    sidecar.until_state("api", &name, "unhealthy", secs(5)).await;
    assert_eq!(reason(&sidecar, server.address).await, "NOT_SERVING");

    server.reporter.set_service_status("api", ServingStatus::Serving).await;
    sidecar.until_state("api", &name, "ready", secs(5)).await;

    server.reporter.set_service_status("api", ServingStatus::Unknown).await;
    sidecar.until_state("api", &name, "unhealthy", secs(5)).await;
    assert_eq!(reason(&sidecar, server.address).await, "UNKNOWN");

    let seen = server.seen.lock().unwrap();
    assert!(seen.iter().all(|(authority, _)| authority == "api.internal"), "{seen:?}");
    assert!(seen.iter().all(|(_, agent)| agent.starts_with("outrigger/")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_service_the_server_as_a_whole_is_asked() {
    let server = Server::start().await;
    let sidecar = Sidecar::ready(&checked(&[server.address], "probe = \"grpc\"")).await;
    assert_eq!(reason(&sidecar, server.address).await, "");
    assert_eq!(server.seen.lock().unwrap()[0].0, server.address.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_way_to_fail_is_named() {
    let unknown = Server::start().await;
    let closes = Backend::start().await;
    let refuses = RawBackend::answering(
        b"PRI * HTTP/2.0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        true,
    )
    .await;
    let mute = ByHand::listen().await;
    let keys = "probe = \"grpc\"\nservice = \"unheard.of\"\ntimeout = \"400ms\"";
    let all = [unknown.address, closes.address, refuses.address, mute.address];
    let config = checked(&all, keys);
    let (sidecar, mut asked) = tokio::join!(Sidecar::ready(&config), mute.accept());
    let said = reason(&sidecar, unknown.address).await;
    assert!(said.starts_with("NOT_FOUND: "), "{said}");
    // Neither of these two speaks HTTP/2.
    for address in [closes.address, refuses.address] {
        let said = reason(&sidecar, address).await;
        assert!(said.starts_with("HTTP/2: "), "{said}");
    }
    assert_eq!(reason(&sidecar, mute.address).await, "no answer within 400ms");
    // What timed out is not left open.
    asked.rest().await;
}

/// A server of which nothing but HTTP/2 is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_without_the_health_service_fails() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = serve(listener, |stream| async move {
        let answer = service_fn(|_| async {
            let mut response = ::http::Response::new(String::new());
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response.headers_mut().insert("grpc-status", "12".parse().unwrap());
            response.headers_mut().insert("grpc-message", "no%20such%20method".parse().unwrap());
            Ok::<_, std::convert::Infallible>(response)
        });
        let serving = http2::Builder::new(TokioExecutor::new());
        let _ = serving.serve_connection(TokioIo::new(stream), answer).await;
    });
    let keys = "probe = \"grpc\"\ninterval = \"100ms\"";
    let sidecar = Sidecar::ready(&checked(&[address], keys)).await;
    until_probe_says(&sidecar, "UNIMPLEMENTED: no such method").await;
    task.abort();
}
