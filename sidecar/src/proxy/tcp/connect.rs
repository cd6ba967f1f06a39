//! A backend for a connection: picked, connected, and another one where that fails.
//!
//! Nothing of the app's has been read when a connection fails, so every other backend may be asked:
//! that loses nobody anything but time, and there is a bound on that.

use tokio::time::Instant;

use super::site::Destination;
use crate::cluster::{Key, NoPick, Wish};
use crate::net::dial::{Patience, Stream};
use crate::proxy::cluster::{GivesUp, LocalCluster};
use crate::telemetry::metrics::{End, Outcome};
use crate::upstream::{Connection, Seat, Work};

/// Backends that are asked for one connection.
const MOST: usize = 16;

/// A backend that is connected.
pub(super) type Connected = (Work, Box<Connection>);

/// Connects to one backend after another until one accepts, for as long as `retry.attempts` that get
/// no answer may take. Each connection begins with `header`. Only who waits for room is watched: to
/// connect takes less time.
///
/// Most connections are over before it matters what a socket does beside carrying bytes, so that it is
/// the relay that sees to it, unless something is to be said before.
pub(super) async fn connect(
    destination: &Destination,
    app: &Stream,
    key: Key,
    header: &[u8],
) -> Result<Connected, End> {
    let cluster = &destination.cluster;
    let settings = cluster.settings();
    let attempts = u32::try_from(settings.retry.attempts).unwrap_or(u32::MAX);
    let limit = settings.timeouts.connect.map(|timeout| timeout.saturating_mul(attempts));
    let speaks = !header.is_empty() || cluster.cluster.tls.is_some();
    let patience = speaks.then_some(Patience::Long);
    let started = Instant::now();
    let mut tried: Vec<u64> = Vec::new();
    let result = loop {
        let (mut work, seat) = match find(cluster, app, key, &tried).await {
            Ok(found) => found,
            Err(end) if tried.is_empty() || end == End::ByApp => break Err(end),
            Err(_) => break Err(End::ConnectFailed),
        };
        match seat.connect(&cluster.cluster, patience, header).await {
            Ok(connection) => {
                accepted(cluster, key, &mut work);
                break Ok((work, connection));
            }
            Err(error) => {
                let backend = &work.pick.backend;
                tracing::debug!(backend = %backend.name, %error, "connect failed");
                tried.push(backend.id);
                work.pick.outcome(Outcome::ConnectFailed);
            }
        }
        let late = limit.is_some_and(|limit| started.elapsed() >= limit);
        if late || tried.len() >= MOST || settings.retry.attempts == 1 {
            break Err(End::ConnectFailed);
        }
    };
    let retries = tried.len().saturating_sub(usize::from(result.is_err()));
    let metrics = cluster.metrics();
    let counter = if result.is_ok() { &metrics.retries_succeeded } else { &metrics.retries_failed };
    counter.increment(retries as u64);
    result
}

/// The time to connect is what is known of how fast a backend is. Whether it has recovered is not
/// known by that: the kernel accepts for a process that is stuck.
fn accepted(cluster: &LocalCluster, key: Key, work: &mut Work) {
    if !work.pick.is_trial() {
        work.pick.answered(false, None);
    }
    if key != Key::None {
        let result = cluster.settle(key, &work.pick);
        cluster.metrics().affinity(result).increment(1);
    }
}

/// Picks a backend, and waits for room if there is none, or others have waited before.
async fn find(
    cluster: &LocalCluster,
    app: &Stream,
    key: Key,
    tried: &[u64],
) -> Result<(Work, Seat), End> {
    let pick = || {
        let wish = Wish { key, tried, replayable: true, now: Instant::now() };
        cluster.pick(wish, true)
    };
    let bound = cluster.binds(key);
    if bound || !cluster.is_awaited() {
        match pick() {
            Err(NoPick::Full) => {}
            found => return Ok(found?),
        }
    }
    let until = Instant::now() + cluster.settings().limits.queue_timeout;
    let Some(mut queue) = cluster.queue(bound, until) else { return Err(End::Overflow) };
    loop {
        match queue.wait(app.gone()).await {
            Ok(()) => {}
            Err(GivesUp::Left(())) => return Err(End::ByApp),
            Err(GivesUp::Late) => return Err(End::Overflow),
        }
        match pick() {
            Err(NoPick::Full) => {}
            found => return Ok(found?),
        }
    }
}

impl From<NoPick> for End {
    fn from(none: NoPick) -> Self {
        match none {
            NoPick::NoBackend => Self::NoBackend,
            NoPick::NoEligibleBackend => Self::NoEligibleBackend,
            NoPick::Full => Self::Overflow,
        }
    }
}
