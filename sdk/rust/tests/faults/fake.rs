//! A control API that does what the test says, and remembers what it was asked.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt, stream};
use outrigger_proto::v1::control_service_server::{ControlService, ControlServiceServer};
use outrigger_proto::v1::*;
use outrigger_sdk::Client;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// A request that came, but for those of watches and leases as they are opened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    List,
    Watch { instance: String, version: u64 },
    Lease { owner: String },
    Weight(SetWeightRequest),
    ClearWeight(ClearWeightRequest),
    Pin(SetAffinityRequest),
    Affinity(String),
    Drain(DrainRequest),
    Resume(ResumeRequest),
    Report(ReportOutcomeRequest),
    Other,
}

/// What the fake does and has seen, over all its lives.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// The `authorization` of each request.
    pub(crate) authorizations: Mutex<Vec<Option<String>>>,
    /// What comes of the next calls, other than success.
    pub(crate) failures: Mutex<VecDeque<Status>>,
    /// Where keys lead; empty: nowhere.
    pub(crate) home: Mutex<String>,
    /// Backends that discovery has not found, where weights are ordered.
    pub(crate) unknown: Mutex<Vec<String>>,
    /// Whether leases end as soon as they begin.
    pub(crate) ends_leases: AtomicBool,
    lives: Mutex<u64>,
}

impl Script {
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How many of these were asked for.
    pub(crate) fn count(&self, which: impl Fn(&Asked) -> bool) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| which(asked)).count()
    }

    pub(crate) fn fail(&self, status: &Status, times: usize) {
        self.failures.lock().unwrap().extend(std::iter::repeat_n(status.clone(), times));
    }
}

/// A fake sidecar on a unix socket, that can be killed and started again.
#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) script: Arc<Script>,
    /// What every watch is sent: the last change, and those that follow.
    pub(crate) changes: watch::Sender<Vec<WatchClusterResponse>>,
    dir: TempDir,
    life: Option<Runtime>,
}

impl Sidecar {
    pub(crate) fn start() -> Self {
        let mut sidecar = Self {
            script: Arc::default(),
            changes: watch::Sender::default(),
            dir: tempfile::tempdir().unwrap(),
            life: None,
        };
        sidecar.start_again();
        sidecar
    }

    pub(crate) fn start_again(&mut self) {
        let path = self.path();
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        *self.script.lives.lock().unwrap() += 1;
        let life = Life { script: Arc::clone(&self.script), changes: self.changes.clone() };
        // Of its own, so that everything ends with it at once, as a process does.
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let incoming = tokio::net::UnixListener::from_std(listener).unwrap();
            let incoming = UnixListenerStream::new(incoming);
            let server = Server::builder().add_service(ControlServiceServer::new(life));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        self.life = Some(runtime);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.shutdown_background();
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.path().display())
    }

    pub(crate) fn client(&self) -> Client {
        Client::builder().address(self.address()).connect().unwrap()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A message of a watch, with backends and their shares.
pub(crate) fn message(version: u64, full: bool, changed: &[(&str, u32)]) -> WatchClusterResponse {
    let backend =
        |&(name, share): &(&str, u32)| Backend { name: name.into(), share, ..Backend::default() };
    WatchClusterResponse {
        instance: "first".into(),
        version,
        full,
        changed: changed.iter().map(backend).collect(),
        ..WatchClusterResponse::default()
    }
}

#[derive(Debug)]
struct Life {
    script: Arc<Script>,
    changes: watch::Sender<Vec<WatchClusterResponse>>,
}

impl Life {
    fn note<T>(&self, request: Request<T>, asked: impl FnOnce(&T) -> Asked) -> Result<T, Status> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        self.script.authorizations.lock().unwrap().push(authorization);
        let request = request.into_inner();
        self.script.asked.lock().unwrap().push(asked(&request));
        match self.script.failures.lock().unwrap().pop_front() {
            Some(status) => Err(status),
            None => Ok(request),
        }
    }
}

fn backend(name: String) -> Option<Backend> {
    Some(Backend { name, ..Backend::default() })
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ControlService for Life {
    type WatchClusterStream = Answers<WatchClusterResponse>;
    type OpenLeaseStream = Answers<OpenLeaseResponse>;

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let request = self.note(request, |_| Asked::List)?;
        let cluster = Cluster { name: request.cluster, ..Cluster::default() };
        Ok(Response::new(ListClustersResponse { clusters: vec![cluster] }))
    }

    async fn watch_cluster(
        &self,
        request: Request<WatchClusterRequest>,
    ) -> Result<Response<Self::WatchClusterStream>, Status> {
        self.note(request, |request| Asked::Watch {
            instance: request.instance.clone(),
            version: request.version,
        })?;
        let changes = WatchStream::new(self.changes.subscribe());
        let messages = changes.flat_map(|change| stream::iter(change.into_iter().map(Ok)));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn open_lease(
        &self,
        request: Request<Streaming<OpenLeaseRequest>>,
    ) -> Result<Response<Self::OpenLeaseStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        self.note(Request::new(first), |first| Asked::Lease { owner: first.owner.clone() })?;
        let life = *self.script.lives.lock().unwrap();
        let id = OpenLeaseResponse { lease_id: format!("lease {life}") };
        if self.script.ends_leases.load(Ordering::Relaxed) {
            return Ok(Response::new(Box::pin(stream::iter([Ok(id)]))));
        }
        let until_closed =
            stream::once(async move { while let Ok(Some(_)) = requests.message().await {} });
        let rest = until_closed.filter_map(|()| async { None });
        Ok(Response::new(Box::pin(stream::iter([Ok(id)]).chain(rest))))
    }

    async fn set_weight(
        &self,
        request: Request<SetWeightRequest>,
    ) -> Result<Response<SetWeightResponse>, Status> {
        let request = self.note(request, |request| Asked::Weight(request.clone()))?;
        if self.script.unknown.lock().unwrap().contains(&request.backend) {
            return Err(Status::not_found("no such backend"));
        }
        Ok(Response::new(SetWeightResponse { backend: backend(request.backend) }))
    }

    async fn clear_weight(
        &self,
        request: Request<ClearWeightRequest>,
    ) -> Result<Response<ClearWeightResponse>, Status> {
        let request = self.note(request, |request| Asked::ClearWeight(request.clone()))?;
        Ok(Response::new(ClearWeightResponse { backend: backend(request.backend) }))
    }

    async fn set_affinity(
        &self,
        request: Request<SetAffinityRequest>,
    ) -> Result<Response<SetAffinityResponse>, Status> {
        let request = self.note(request, |request| Asked::Pin(request.clone()))?;
        let backend = match request.backend.is_empty() {
            true => self.script.home.lock().unwrap().clone(),
            false => request.backend,
        };
        Ok(Response::new(SetAffinityResponse { backend }))
    }

    async fn get_affinity(
        &self,
        request: Request<GetAffinityRequest>,
    ) -> Result<Response<GetAffinityResponse>, Status> {
        self.note(request, |request| Asked::Affinity(request.key.clone()))?;
        let backend = self.script.home.lock().unwrap().clone();
        Ok(Response::new(GetAffinityResponse { backend, ..GetAffinityResponse::default() }))
    }

    async fn clear_affinity(
        &self,
        request: Request<ClearAffinityRequest>,
    ) -> Result<Response<ClearAffinityResponse>, Status> {
        self.note(request, |_| Asked::Other)?;
        Ok(Response::new(ClearAffinityResponse { cleared: true }))
    }

    async fn drain(
        &self,
        request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        let request = self.note(request, |request| Asked::Drain(request.clone()))?;
        Ok(Response::new(DrainResponse { backend: backend(request.backend) }))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<ResumeResponse>, Status> {
        let request = self.note(request, |request| Asked::Resume(request.clone()))?;
        Ok(Response::new(ResumeResponse { backend: backend(request.backend) }))
    }

    async fn wait_drained(
        &self,
        request: Request<WaitDrainedRequest>,
    ) -> Result<Response<WaitDrainedResponse>, Status> {
        self.note(request, |_| Asked::Other)?;
        std::future::pending().await
    }

    async fn report_outcome(
        &self,
        request: Request<ReportOutcomeRequest>,
    ) -> Result<Response<ReportOutcomeResponse>, Status> {
        self.note(request, |request| Asked::Report(request.clone()))?;
        Ok(Response::new(ReportOutcomeResponse {}))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        self.note(request, |_| Asked::Other)?;
        Ok(Response::new(ListEventsResponse::default()))
    }

    async fn explain(
        &self,
        request: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        self.note(request, |_| Asked::Other)?;
        Ok(Response::new(ExplainResponse::default()))
    }
}
