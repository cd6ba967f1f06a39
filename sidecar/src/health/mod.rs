//! Active health checks: when backends are probed.
//!
//! What a verdict means for the cluster is the cluster's affair; here is only the schedule.

pub mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::{Backend, Cluster, Event, ProbeReport};
use crate::config::{Health, HostPolicy};

/// Probes under way at a time, over all clusters.
const CONCURRENT: usize = 64;
/// Nobody waits longer than this for a first verdict, however long the interval.
const FIRST_WITHIN: Duration = Duration::from_millis(500);

/// Bounds the probes of one sidecar.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Semaphore>);

impl Default for Slots {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONCURRENT)))
    }
}

/// Probes the members of a cluster for as long as the sidecar runs.
pub async fn run(cluster: Arc<Cluster>, slots: Slots) {
    let Some(health) = cluster.settings.health.clone().map(Arc::new) else { return };
    let mut version = cluster.version();
    let mut schedules: HashMap<u64, Schedule> = HashMap::new();
    loop {
        let snapshot = cluster.snapshot();
        let members: HashMap<u64, &Arc<Backend>> =
            snapshot.entries.iter().map(|entry| (entry.backend.id, &entry.backend)).collect();
        // A probe names the backend: one that is called otherwise now is probed anew.
        schedules.retain(|id, schedule| {
            members.get(id).is_some_and(|member| member.host == schedule.backend.host)
        });
        for entry in &snapshot.entries {
            schedules.entry(entry.backend.id).or_insert_with(|| {
                let prober = Prober {
                    backend: Arc::clone(&entry.backend),
                    health: Arc::clone(&health),
                    host: cluster.settings.host.clone(),
                    events: cluster.events(),
                    slots: slots.clone(),
                };
                Schedule::start(prober)
            });
        }
        if version.changed().await.is_err() {
            return;
        }
    }
}

/// The probing of one backend; it ends when this is dropped.
struct Schedule {
    backend: Arc<Backend>,
    task: JoinHandle<()>,
}

impl Schedule {
    fn start(prober: Prober) -> Self {
        Self { backend: Arc::clone(&prober.backend), task: tokio::spawn(prober.run()) }
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Prober {
    backend: Arc<Backend>,
    health: Arc<Health>,
    host: HostPolicy,
    events: mpsc::Sender<Event>,
    slots: Slots,
}

impl Prober {
    async fn run(self) {
        let mut rng = fastrand::Rng::new();
        let first = self.health.interval.min(FIRST_WITHIN).mul_f64(rng.f64());
        let mut next = Instant::now() + first;
        loop {
            tokio::time::sleep_until(next).await;
            let Ok(slot) = self.slots.0.acquire().await else { return };
            let started = Instant::now();
            let verdict = self.probe(started).await;
            drop(slot);
            if let Some(result) = verdict {
                let report = ProbeReport { at: SystemTime::now(), result };
                let probed = Event::Probed { id: self.backend.id, report };
                if self.events.send(probed).await.is_err() {
                    return;
                }
            }
            // Backends that were found together are not probed in step for ever.
            next = started + self.health.interval.mul_f64(1.0 - 0.1 * rng.f64());
        }
    }

    /// What one probe says; nothing when this thread was too busy for its clock to be trusted.
    async fn probe(&self, started: Instant) -> Option<Result<(), String>> {
        let timeout = self.health.timeout;
        let probing = probe::run(&self.health.probe, &self.backend.endpoint, &self.host);
        match tokio::time::timeout(timeout, probing).await {
            Ok(result) => Some(result),
            Err(_) if started.elapsed() > timeout + timeout / 4 => None,
            Err(_) => {
                Some(Err(format!("no answer within {}", humantime::format_duration(timeout))))
            }
        }
    }
}
