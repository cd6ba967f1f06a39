//! The whole sidecar: the only file that knows every module.
//!
//! Workers carry the traffic, each on a thread of its own ([`proxy`](crate::proxy)). Everything else runs on
//! the runtime that calls [`Sidecar::start`], the control thread: one task per cluster that owns
//! its state, one that discovers, one that probes, the admin API and the upkeep of metrics. None
//! of these is on the way of a request.

mod control;
mod listeners;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use control::Bound as ControlApi;
use listeners::Made;

use crate::admin::{self, Admin};
use crate::cluster::affinity::Keyring;
use crate::cluster::{Cluster, FleetWrite, History};
use crate::config::Config;
use crate::control::Control;
use crate::control::tokens::BadTokens;
use crate::discovery::store::{self, Recalled};
use crate::discovery::{SourceError, Sources};
use crate::net::Address;
use crate::net::backoff::Backoff;
use crate::net::listen::Socket;
use crate::proxy::listener::{Listener, Socket as Bound};
use crate::proxy::worker;
use crate::readiness::Readiness;
use crate::shutdown::{self, Guards, Phase};
use crate::state::{self, StateError};
use crate::telemetry::access::{self, AccessLog};
use crate::telemetry::metrics::{Metrics, TOUCH};
use crate::tls::{self, Tls};
use crate::{config, discovery, health};

/// Orders for the fleet that wait to be written.
const FLEET_WRITES: usize = 64;

/// How long callers of the control API may take to hear that this is the end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{who}: cannot listen on {address}: {error}")]
    Bind { who: String, address: Address, error: io::Error },
    #[error(transparent)]
    Sources(#[from] SourceError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Tls(#[from] tls::Unloadable),
    #[error("control.token_file: {0}")]
    Tokens(#[from] BadTokens),
    #[error("the system has no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error("log.access: {0}")]
    AccessLog(io::Error),
    #[error("threads cannot be started: {0}")]
    Threads(io::Error),
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// What the admin API is bound to.
    pub admin: Address,
    /// What the control API is bound to; `None`: it is off.
    pub control: Option<Address>,
    /// Listeners by name, and what they are bound to.
    pub listeners: Vec<(Arc<str>, Address)>,
    phase: watch::Sender<Phase>,
    guards: Guards,
    /// Connections of the control API.
    callers: Guards,
    workers: Vec<JoinHandle<()>>,
    /// Ends with the last worker.
    access_writer: Option<access::Writer>,
    grace: Duration,
}

impl Sidecar {
    /// Binds every address and starts everything; to be called on the control thread's runtime.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let metrics = Metrics::new()?;
        let sources = Arc::new(Sources::new(config)?);
        let (phase, phases) = watch::channel(Phase::Running);
        let guards = Guards::default();

        let keyring = keyring(config)?;
        let tls = tls::load(config)?;

        let access = AccessLog::start(&config.log, &metrics).map_err(StartError::AccessLog)?;
        let (access, access_writer) = access.unzip();

        let admin_socket = bind("admin", &config.admin.listen)?;
        let admin_address = address(&admin_socket, "admin", &config.admin.listen)?;
        let bound = |settings| ControlApi::bind(settings, tls.control.clone());
        let control_api = config.control.as_ref().map(bound).transpose()?;
        let control_address = control_api.as_ref().map(|bound| bound.address.clone());
        let history = Arc::new(History::default());
        let clusters = start_clusters(config, &sources, &metrics, &history, keyring.as_ref(), &tls);
        let made = Made { clusters: &clusters, metrics: &metrics, tls: &tls, access };
        let listeners = config
            .listeners
            .iter()
            .map(|listener| made.bind(listener))
            .collect::<Result<Vec<_>, _>>()?;
        let named = |(_, listener): &(Bound, Listener)| {
            (Arc::clone(&listener.settings.name), listener.address.clone())
        };
        let listener_addresses = listeners.iter().map(named).collect();
        let workers = worker::start(config.runtime.workers, listeners, &guards, &phases)
            .map_err(StartError::Threads)?;

        start_upkeep(&clusters, &metrics);
        start_looks_at_certificates(&tls);
        let fleet = start_fleet(&clusters, &sources);
        let start_timeout = config.runtime.start_timeout;
        let readiness = Readiness::new(clusters.clone(), phases.clone(), start_timeout);
        let readiness = Arc::new(readiness);
        let control = Control::new(&clusters, &history, &readiness, &phases)?;
        let callers = control.connections.clone();
        if let Some(bound) = control_api {
            bound.serve(&Arc::new(control))?;
        }
        let admin = Arc::new(Admin {
            clusters,
            history,
            fleet,
            metrics,
            phase: phases,
            readiness,
            address: admin_address.clone(),
        });
        let admin_socket = Arc::new(admin_socket);
        supervise("admin", move || admin::run(Arc::clone(&admin), Arc::clone(&admin_socket)));
        Ok(Self {
            admin: admin_address,
            control: control_address,
            listeners: listener_addresses,
            phase,
            guards,
            callers,
            workers,
            access_writer,
            grace: config.runtime.shutdown_grace,
        })
    }

    /// Stops: readiness fails at once, requests in flight finish. False when some were still
    /// unfinished at the end of the grace.
    pub async fn stop(self) -> bool {
        tracing::info!(connections = self.guards.count(), "stopping");
        let finished = shutdown::drain(&self.phase, &self.guards, self.grace).await;
        if !finished {
            tracing::warn!(connections = self.guards.count(), "cut at the end of shutdown_grace");
        }
        // They end with a word by themselves, unless somebody does not take it.
        let _ = tokio::time::timeout(LAST_WORDS, self.callers.gone()).await;
        drop(self.phase);
        for worker in self.workers {
            let _ = worker.join();
        }
        if let Some(writer) = self.access_writer {
            writer.finish();
        }
        finished
    }
}

/// What signs cookies, where some cluster sets them.
fn keyring(config: &Config) -> Result<Option<Arc<Keyring>>, StateError> {
    if !config.has_cookies() {
        return Ok(None);
    }
    let (keyring, from) = state::load_keyring(config)?;
    tracing::info!("{from}");
    Ok(Some(Arc::new(keyring)))
}

fn start_clusters(
    config: &Config,
    sources: &Arc<Sources>,
    metrics: &Arc<Metrics>,
    history: &Arc<History>,
    keyring: Option<&Arc<Keyring>>,
    tls: &Tls,
) -> Vec<Arc<Cluster>> {
    let slots = health::Slots::default();
    let start = |settings: &Arc<config::Cluster>| {
        let timeout = config.runtime.start_timeout;
        let (of, client) = (Arc::clone(settings), tls.clusters.get(&settings.name).cloned());
        let (cluster, mut task) =
            Cluster::new(of, timeout, metrics, history, keyring.cloned(), client);
        // Before the first request, which may come as soon as there is a socket.
        for (source, settings) in settings.sources.iter().enumerate() {
            if let Some(endpoints) = discovery::known(settings) {
                task.seed(source, endpoints);
            }
        }
        if let Some(dir) = &config.runtime.state_dir {
            if let Some(Recalled { source, saved_at, endpoints }) = sources.recall(dir, settings) {
                task.remember(source, saved_at, endpoints, config.runtime.max_stale);
            }
            let (of, dir) = (Arc::clone(&cluster), dir.clone());
            supervise("memory", move || store::keep(Arc::clone(&of), dir.clone()));
        }
        tokio::spawn(task.run());
        for source in 0..settings.sources.len() {
            let (of, sources) = (Arc::clone(&cluster), Arc::clone(sources));
            let follow = move || Arc::clone(&sources).follow(Arc::clone(&of), source);
            supervise("discovery", follow);
        }
        let (of, slots) = (Arc::clone(&cluster), slots.clone());
        supervise("health", move || health::run(Arc::clone(&of), slots.clone()));
        cluster
    };
    config.clusters.iter().map(start).collect()
}

impl StartError {
    fn bind(who: &str, address: &Address, error: io::Error) -> Self {
        Self::Bind { who: who.into(), address: address.clone(), error }
    }
}

fn bind(who: &str, wanted: &Address) -> Result<Socket, StartError> {
    Socket::bind(wanted).map_err(|error| StartError::bind(who, wanted, error))
}

fn address(socket: &Socket, who: &str, wanted: &Address) -> Result<Address, StartError> {
    socket.address().map_err(|error| StartError::bind(who, wanted, error))
}

/// Orders for the whole fleet; the value takes those that are given here, where they can be written.
fn start_fleet(
    clusters: &[Arc<Cluster>],
    sources: &Arc<Sources>,
) -> Option<mpsc::Sender<FleetWrite>> {
    if !sources.takes_orders() {
        return None;
    }
    let (of, from) = (clusters.to_vec(), Arc::clone(sources));
    supervise("fleet orders", move || Arc::clone(&from).follow_orders(of.clone()));
    let (wishes, waiting) = mpsc::channel(FLEET_WRITES);
    let (waiting, to) = (Arc::new(Mutex::new(waiting)), Arc::clone(sources));
    supervise("fleet writes", move || Arc::clone(&to).write_orders(Arc::clone(&waiting)));
    Some(wishes)
}

fn start_looks_at_certificates(tls: &Tls) {
    let servers = tls.servers();
    if !servers.is_empty() {
        supervise("certificates", move || tls::follow(servers.clone()));
    }
}

fn start_upkeep(clusters: &[Arc<Cluster>], metrics: &Arc<Metrics>) {
    let (clusters, metrics) = (clusters.to_vec(), Arc::clone(metrics));
    supervise("upkeep", move || upkeep(clusters.clone(), Arc::clone(&metrics)));
}

async fn upkeep(clusters: Vec<Arc<Cluster>>, metrics: Arc<Metrics>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut touched = Instant::now();
    loop {
        seconds.tick().await;
        clusters.iter().for_each(|cluster| cluster.report());
        metrics.fold();
        if touched.elapsed() >= TOUCH {
            touched = Instant::now();
            let metrics = Arc::clone(&metrics);
            let _ = tokio::task::spawn_blocking(move || metrics.upkeep()).await;
        }
    }
}

/// Runs a task for as long as the sidecar; one that panics is started again.
fn supervise<F, T>(name: &'static str, start: F)
where
    F: Fn() -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let mut rng = fastrand::Rng::new();
        while let Err(error) = tokio::spawn(start()).await {
            if error.is_cancelled() {
                return;
            }
            tracing::error!(task = name, %error, "a task failed and is started again");
            tokio::time::sleep(backoff.failed(&mut rng)).await;
        }
    });
}
