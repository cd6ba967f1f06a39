//! Metrics: their [names], and the handles that count ([groups]).
//!
//! Handles are resolved when a listener, cluster or backend appears and only counted on
//! afterwards, so that nothing is looked up or formatted on the way of a request. The exporter
//! drops series that nobody touched for [`IDLE`]: that is how the series of a backend that is
//! gone disappear. A handle whose series was dropped is silent for good, so every group of live
//! handles is touched by [`Metrics::upkeep`]; a group dies with the listener, cluster or backend
//! that owns it.

mod backends;
mod groups;
mod names;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_process::Collector;
use metrics_util::MetricKindMask;

pub use backends::BackendRow;
pub use groups::{
    BackendMetrics, ClusterMetrics, ListenerMetrics, RouteMetrics, TransportMetrics, UdpMetrics,
};
use names::{
    AFFINITIES, BUILD_INFO, DRAINS, DROPS, DURATIONS, EJECTIONS, ENDS, LIFETIMES, OUTCOMES, UPDATES,
};
pub use names::{
    ALL, AffinityResult, DrainResult, Dropped, EjectionReason, End, Kind, Outcome, REASONS, STATES,
    Update,
};

/// Series that were not touched for this long are dropped.
const IDLE: Duration = Duration::from_secs(5 * 60);
/// Live series are touched this often, and idle ones dropped.
pub const TOUCH: Duration = Duration::from_secs(60);

/// A group of handles that live and die together.
trait Group: Send + Sync {
    /// Marks every series of the group as in use.
    fn touch(&self);
}

/// The registry of one sidecar.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
    groups: Mutex<Vec<Weak<dyn Group>>>,
    build_info: Gauge,
    access_dropped: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub fn new() -> Result<Arc<Self>, BuildError> {
        let histogram = |name: &str| Matcher::Full(name.to_owned());
        let recorder = PrometheusBuilder::new()
            // Without buckets of its own a histogram would be exported as a summary.
            .set_buckets_for_metric(histogram("outrigger_request_duration_seconds"), &DURATIONS)?
            .set_buckets_for_metric(histogram("outrigger_connection_duration_seconds"), &LIFETIMES)?
            .idle_timeout(MetricKindMask::COUNTER | MetricKindMask::GAUGE, Some(IDLE))
            .build_recorder();
        for (name, kind, help) in ALL {
            let (name, help) = (KeyName::from_const_str(name), help.into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            }
        }
        recorder.describe_gauge(BUILD_INFO.0.into(), None, BUILD_INFO.1.into());
        let process = Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let build_info = gauge(&recorder, BUILD_INFO.0, &[("version", env!("CARGO_PKG_VERSION"))]);
        build_info.set(1.0);
        let handle = recorder.handle();
        let access_dropped = counter(&recorder, "outrigger_access_log_dropped_total", &[]);
        let groups = Mutex::default();
        Ok(Arc::new(Self { recorder, handle, process, groups, build_info, access_dropped }))
    }

    /// The exposition text, with the gauges of these backends. Takes time in proportion to the series:
    /// not for a thread that others wait for.
    pub fn render(&self, backends: &[BackendRow]) -> String {
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let mut page = self.handle.render();
        backends::write(&mut page, backends);
        page
    }

    /// Folds the samples of histograms into their buckets; to be called about every second, or
    /// they pile up.
    pub fn fold(&self) {
        self.handle.run_upkeep();
    }

    /// Touches what is alive, and drops what is not; to be called every [`TOUCH`].
    pub fn upkeep(&self) {
        self.build_info.set(1.0);
        self.access_dropped.increment(0);
        self.groups().retain(|group| match group.upgrade() {
            Some(group) => {
                group.touch();
                true
            }
            None => false,
        });
        // Idle series are dropped only by rendering.
        drop(self.render(&[]));
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, Vec<Weak<dyn Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add<G: Group + 'static>(&self, group: G) -> Arc<G> {
        let group = Arc::new(group);
        let weak: Weak<G> = Arc::downgrade(&group);
        self.groups().push(weak);
        group
    }

    /// Lines of the access log that were left out.
    pub fn access_dropped(&self) -> Counter {
        self.access_dropped.clone()
    }

    pub fn listener(&self, listener: &str) -> Arc<ListenerMetrics> {
        let labels = [("listener", listener)];
        self.add(ListenerMetrics {
            connections: counter(&self.recorder, "outrigger_connections_total", &labels),
            connections_active: gauge(&self.recorder, "outrigger_connections_active", &labels),
        })
    }

    /// For the requests of `listener` that go to `cluster`; an empty name for those that were
    /// answered before a cluster was known.
    pub fn route(self: &Arc<Self>, listener: &str, cluster: &str) -> Arc<RouteMetrics> {
        let errors = self.errors(listener, cluster);
        let metrics = self.add(RouteMetrics {
            registry: Arc::downgrade(self),
            listener: listener.into(),
            cluster: cluster.into(),
            requests: [const { OnceLock::new() }; 500],
            errors,
        });
        if !cluster.is_empty() {
            metrics.requests(200).increment(0);
        }
        metrics
    }

    /// For the connections or sessions of `listener` that go to `cluster`; an empty name for those
    /// that ended before a cluster was known.
    pub fn transport(&self, listener: &str, cluster: &str) -> Arc<TransportMetrics> {
        let by_reason = |reason| {
            let labels =
                [("listener", listener), ("outrigger_cluster", cluster), ("reason", reason)];
            counter(&self.recorder, "outrigger_connection_ends_total", &labels)
        };
        let labels = [("listener", listener), ("outrigger_cluster", cluster)];
        let key = key("outrigger_connection_duration_seconds", &labels);
        self.add(TransportMetrics {
            ends: ENDS.map(by_reason),
            errors: self.errors(listener, cluster),
            duration: self.recorder.register_histogram(&key, &METADATA),
        })
    }

    pub fn udp(&self, listener: &str) -> Arc<UdpMetrics> {
        let counter_by = |name, key, value| {
            counter(&self.recorder, name, &[("listener", listener), (key, value)])
        };
        let passed =
            |direction| counter_by("outrigger_udp_datagrams_total", "direction", direction);
        let dropped = |why| counter_by("outrigger_udp_datagrams_dropped_total", "reason", why);
        self.add(UdpMetrics {
            sessions: gauge(&self.recorder, "outrigger_udp_sessions", &[("listener", listener)]),
            to_backend: passed("to_backend"),
            from_backend: passed("from_backend"),
            dropped: DROPS.map(dropped),
        })
    }

    fn errors(&self, listener: &str, cluster: &str) -> [Counter; REASONS.len()] {
        REASONS.map(|reason| {
            // Without a cluster there are only these two.
            let possible = match reason {
                "bad_request" => true,
                "no_route" => cluster.is_empty(),
                _ => !cluster.is_empty(),
            };
            let labels =
                [("listener", listener), ("outrigger_cluster", cluster), ("reason", reason)];
            match possible {
                true => counter(&self.recorder, "outrigger_errors_total", &labels),
                false => Counter::noop(),
            }
        })
    }

    /// `sources`: the kinds of the cluster's sources, in their order.
    pub fn cluster(
        &self,
        cluster: &str,
        sources: impl Iterator<Item = &'static str>,
    ) -> Arc<ClusterMetrics> {
        let own = [("outrigger_cluster", cluster)];
        let counter_by = |name, key, value| {
            counter(&self.recorder, name, &[("outrigger_cluster", cluster), (key, value)])
        };
        let updates = |source| {
            UPDATES.map(|result| {
                let labels =
                    [("outrigger_cluster", cluster), ("source", source), ("result", result)];
                counter(&self.recorder, "outrigger_discovery_updates_total", &labels)
            })
        };
        let gauge = |name| gauge(&self.recorder, name, &own);
        let name = Key::from_static_name("outrigger_request_duration_seconds");
        let key = name.with_extra_labels(vec![Label::new("outrigger_cluster", cluster.to_owned())]);
        self.add(ClusterMetrics {
            request_duration: self.recorder.register_histogram(&key, &METADATA),
            bytes_to_backend: counter_by("outrigger_bytes_total", "direction", "to_backend"),
            bytes_from_backend: counter_by("outrigger_bytes_total", "direction", "from_backend"),
            probes_passed: counter_by("outrigger_probes_total", "result", "pass"),
            probes_failed: counter_by("outrigger_probes_total", "result", "fail"),
            retries_succeeded: counter_by("outrigger_retries_total", "result", "success"),
            retries_failed: counter_by("outrigger_retries_total", "result", "failure"),
            retries_exhausted: counter_by("outrigger_retries_total", "result", "budget_exhausted"),
            ejections: EJECTIONS.map(|r| counter_by("outrigger_ejections_total", "reason", r)),
            drains: DRAINS.map(|r| counter_by("outrigger_drains_total", "result", r)),
            affinity: AFFINITIES.map(|r| counter_by("outrigger_affinity_total", "result", r)),
            updates: sources.map(updates).collect(),
            removals_held: counter(&self.recorder, "outrigger_removals_held_total", &own),
            fleet_orders_ignored: counter(
                &self.recorder,
                "outrigger_fleet_orders_ignored_total",
                &own,
            ),
            stale: gauge("outrigger_discovery_stale_seconds"),
            last_success: gauge("outrigger_discovery_last_success_timestamp_seconds"),
            eligible: gauge("outrigger_eligible_backends"),
            panic: gauge("outrigger_panic"),
        })
    }

    pub fn backend(&self, cluster: &str, backend: &str) -> Arc<BackendMetrics> {
        let own = [("outrigger_cluster", cluster), ("backend", backend)];
        let outcomes = OUTCOMES.map(|outcome| {
            let labels =
                [("outrigger_cluster", cluster), ("backend", backend), ("outcome", outcome)];
            counter(&self.recorder, "outrigger_outcomes_total", &labels)
        });
        self.add(BackendMetrics {
            outcomes,
            connections: counter(&self.recorder, "outrigger_upstream_connections_total", &own),
        })
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<_> =
        labels.iter().map(|(key, value)| Label::new(*key, value.to_string())).collect();
    Key::from_parts(name, labels)
}

fn counter(
    recorder: &PrometheusRecorder,
    name: &'static str,
    labels: &[(&'static str, &str)],
) -> Counter {
    let counter = recorder.register_counter(&key(name, labels), &METADATA);
    counter.increment(0);
    counter
}

fn gauge(
    recorder: &PrometheusRecorder,
    name: &'static str,
    labels: &[(&'static str, &str)],
) -> Gauge {
    let gauge = recorder.register_gauge(&key(name, labels), &METADATA);
    gauge.set(0.0);
    gauge
}
