//! Active health checks: when backends are probed.
//!
//! What a verdict means for the cluster is the cluster's affair; here is only the schedule.

pub mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{Backend, Cluster, Event, ProbeReport, Verdict};
use crate::config::Health;

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
                    cluster: Arc::clone(&cluster),
                    backend: Arc::clone(&entry.backend),
                    health: Arc::clone(&health),
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
    cluster: Arc<Cluster>,
    backend: Arc<Backend>,
    health: Arc<Health>,
    slots: Slots,
}

impl Prober {
    async fn run(self) {
        let events = self.cluster.events();
        let mut rng = fastrand::Rng::new();
        let first = self.health.interval_unhealthy.min(FIRST_WITHIN).mul_f64(rng.f64());
        sleep(first).await;
        let mut successes = self.backend.successes();
        loop {
            let before = std::mem::replace(&mut successes, self.backend.successes());
            let mut started = Instant::now();
            if !self.is_spared(before != successes) {
                let Ok(slot) = self.slots.0.acquire().await else { return };
                started = Instant::now();
                let report = self.probe(started).await;
                drop(slot);
                if let Some(report) = report {
                    let probed = Event::Probed { id: self.backend.id, report };
                    if events.send(probed).await.is_err() {
                        return;
                    }
                }
            }
            // Backends that were found together are not probed in step for ever.
            let share = 1.0 - 0.1 * rng.f64();
            pause(&self.health, || self.is_healthy(), started, share).await;
        }
    }

    /// Whether traffic has shown what a probe would.
    fn is_spared(&self, succeeded: bool) -> bool {
        self.health.skip_when_busy && succeeded && self.is_healthy()
    }

    /// What one probe says; nothing when this thread was too busy for its clock to be trusted.
    async fn probe(&self, started: Instant) -> Option<ProbeReport> {
        let timeout = self.health.timeout;
        let (settings, tls) = (&self.cluster.settings, self.cluster.tls.as_deref());
        let probing = probe::run(&self.health, &self.backend.endpoint, settings, tls);
        let result = match tokio::time::timeout(timeout, probing).await {
            Ok(result) => result,
            Err(_) if started.elapsed() > timeout + timeout / 4 => return None,
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(timeout))),
        };
        let round_trip = *result.as_ref().unwrap_or(&started.elapsed());
        Some(ProbeReport { at: SystemTime::now(), round_trip, result: result.map(drop) })
    }

    fn is_healthy(&self) -> bool {
        let snapshot = self.cluster.snapshot();
        let place = snapshot.find(self.backend.id);
        place.is_some_and(|place| snapshot.entries[place].probe == Verdict::Healthy)
    }
}

/// Waits until the next probe is due, at this share of the interval that goes with the backend's
/// state. The state is read no sooner than it matters, since the cluster takes a moment to turn a
/// report into it.
async fn pause(health: &Health, is_healthy: impl Fn() -> bool, started: Instant, share: f64) {
    let Health { interval, interval_unhealthy, .. } = *health;
    sleep_until(started + interval.min(interval_unhealthy).mul_f64(share)).await;
    let due = if is_healthy() { interval } else { interval_unhealthy };
    sleep_until(started + due.mul_f64(share)).await;
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::config::Probe;

    fn health(interval: u64, interval_unhealthy: u64) -> Health {
        Health {
            probe: Probe::Tcp,
            port: None,
            host: None,
            interval: Duration::from_secs(interval),
            interval_unhealthy: Duration::from_secs(interval_unhealthy),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            skip_when_busy: false,
        }
    }

    /// Whichever of the two is longer, and although the state changes after the probe's end.
    #[tokio::test(start_paused = true)]
    async fn the_interval_goes_by_the_state_that_the_last_probe_led_to() {
        for (interval, interval_unhealthy) in [(600, 20), (20, 600)] {
            let health = health(interval, interval_unhealthy);
            for (after, share, wanted) in [
                (true, 1.0, interval),
                (true, 0.5, interval / 2),
                (false, 1.0, interval_unhealthy),
                (false, 0.5, interval_unhealthy / 2),
            ] {
                let state = Cell::new(!after);
                let verdict = async {
                    sleep(Duration::from_millis(15)).await;
                    state.set(after);
                };
                let started = Instant::now();
                tokio::join!(verdict, pause(&health, || state.get(), started, share));
                let waited = started.elapsed().as_secs_f64();
                assert!((waited - wanted as f64).abs() < 0.01, "{waited} instead of {wanted}");
            }
        }
    }
}
