//! Steady traffic, and an exact account of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at};

use crate::backend::X_BACKEND;
use crate::client::{Client, request};

/// What came of some traffic.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers below 500, by the backend that gave them.
    pub by_backend: BTreeMap<String, usize>,
    /// What went wrong, each with the time since the start.
    pub failures: Vec<(Duration, String)>,
    /// When each backend first and last answered, since the start.
    pub seen: BTreeMap<String, (Duration, Duration)>,
    pub slowest: Duration,
    /// When each request was sent, since the start, and how long it took.
    pub took: Vec<(Duration, Duration)>,
}

impl Tally {
    pub fn total(&self) -> usize {
        self.by_backend.values().sum::<usize>() + self.failures.len()
    }

    pub fn of(&self, backend: SocketAddr) -> usize {
        self.by_backend.get(&backend.to_string()).copied().unwrap_or(0)
    }

    /// The share of a backend in percent.
    pub fn share(&self, backend: SocketAddr) -> f64 {
        self.of(backend) as f64 * 100.0 / self.total() as f64
    }

    /// The time within which so many percent of the requests were done.
    pub fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.times(Duration::ZERO..Duration::MAX), percent)
    }

    /// How long the requests took that were sent in this span since the start, in order.
    pub fn times(&self, sent: Range<Duration>) -> Vec<Duration> {
        let those = self.took.iter().filter(|(at, _)| sent.contains(at));
        let mut times: Vec<_> = those.map(|(_, took)| *took).collect();
        times.sort_unstable();
        times
    }

    pub fn assert_no_failures(&self) {
        assert!(self.failures.is_empty(), "{} failed: {:?}", self.failures.len(), self.failures);
    }

    fn add(&mut self, other: Self) {
        for (backend, count) in other.by_backend {
            *self.by_backend.entry(backend).or_default() += count;
        }
        for (backend, (first, last)) in other.seen {
            let seen = self.seen.entry(backend).or_insert((first, last));
            *seen = (seen.0.min(first), seen.1.max(last));
        }
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
        self.took.extend(other.took);
    }

    fn answered(&mut self, backend: String, at: Duration) {
        *self.by_backend.entry(backend.clone()).or_default() += 1;
        let seen = self.seen.entry(backend).or_insert((at, at));
        seen.1 = at;
    }
}

/// The time within which so many percent of these were done; they are in order.
pub fn percentile(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
}

/// Traffic that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    connections: Vec<JoinHandle<Tally>>,
    pub started: Instant,
}

impl Load {
    /// Starts `per_second` GETs over `connections` keep-alive connections.
    pub fn start(address: SocketAddr, connections: u32, per_second: u32) -> Self {
        Self::start_with(address, connections, per_second, "GET")
    }

    pub fn start_with(
        address: SocketAddr,
        connections: u32,
        per_second: u32,
        method: &'static str,
    ) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let started = Instant::now();
        let pause = Duration::from_secs(1) * connections / per_second;
        // Their turns are spread, so that the rate is as even as it can be.
        let connection = |index| {
            let stop = Arc::clone(&stop);
            let first = started + pause * index / connections;
            tokio::spawn(async move {
                let mut tally = Tally::default();
                let mut pace = interval_at(first, pause);
                let mut client = None;
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    one(&mut client, address, method, started, &mut tally).await;
                }
                tally
            })
        };
        Self { connections: (0..connections).map(connection).collect(), stop, started }
    }

    /// Stops, and gives the account.
    pub async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Tally::default();
        for connection in self.connections {
            whole.add(connection.await.expect("the load does not panic"));
        }
        whole
    }
}

/// Sends `requests` one after another over each of `connections` connections, as fast as they
/// are answered.
pub async fn burst(address: SocketAddr, connections: u32, requests: u32) -> Tally {
    let started = Instant::now();
    let connection = |_| {
        tokio::spawn(async move {
            let mut tally = Tally::default();
            let mut client = None;
            for _ in 0..requests {
                one(&mut client, address, "GET", started, &mut tally).await;
            }
            tally
        })
    };
    let running: Vec<_> = (0..connections).map(connection).collect();
    let mut whole = Tally::default();
    for connection in running {
        whole.add(connection.await.expect("the load does not panic"));
    }
    whole
}

async fn one(
    client: &mut Option<Client>,
    address: SocketAddr,
    method: &str,
    started: Instant,
    tally: &mut Tally,
) {
    let sent = Instant::now();
    let answer = async {
        // A connection that was closed in between is no failure; one that is closed under a
        // request is.
        if client.as_ref().is_none_or(|client| !client.is_open()) {
            *client = Some(Client::connect(address).await?);
        }
        let connection = client.as_mut().expect("it was just opened");
        connection.send(request(method, "/", address).body(Full::default())?).await
    };
    let answered = tokio::time::timeout(Duration::from_secs(30), answer).await;
    let at = started.elapsed();
    tally.slowest = tally.slowest.max(sent.elapsed());
    tally.took.push((sent - started, sent.elapsed()));
    match answered {
        Ok(Ok(response)) if response.status().as_u16() < 500 => {
            let backend = response.headers().get(X_BACKEND).and_then(|name| name.to_str().ok());
            tally.answered(backend.unwrap_or_default().to_owned(), at);
        }
        Ok(Ok(response)) => {
            let reason = response.headers().get("x-outrigger-error").cloned();
            tally.failures.push((at, format!("{} {reason:?}", response.status())));
        }
        Ok(Err(error)) => {
            *client = None;
            tally.failures.push((at, error.to_string()));
        }
        Err(_) => {
            *client = None;
            tally.failures.push((at, "no answer in 30 s".into()));
        }
    }
}
