//! After everything that can happen on a connection has happened often, nothing is left of it.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::{Stream, stream};
use http::Response;
use http_body_util::{BodyExt, Collected, StreamBody};
use hyper::body::{Frame, Incoming};
use outrigger_tests::backend::{Backend, endpoints, full};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, long, secs};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::rude::Rude;
use crate::traffic::{Done, something};

/// Connections at a time.
const APPS: u64 = 24;
const MIB: f64 = (1 << 20) as f64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_of_disconnects_nothing_is_left() {
    let good = Backend::answering(|request| async {
        let asks = request.headers().contains_key("expect");
        let body = request.into_body();
        Response::new(match asks {
            // Only whoever waits for the body says that it may come.
            true => full(body.collect().await.map(Collected::to_bytes).unwrap_or_default()),
            false => StreamBody::new(echo(body)).boxed(),
        })
    })
    .await;
    let rude = Rude::start().await;
    let config = format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nroutes = [\n\
         {{ path_prefix = \"/good\", cluster = \"good\" }},\n\
         {{ path_prefix = \"/rude\", cluster = \"rude\" }},\n]\n\
         [clusters.good.discovery]\nsource = \"static\"\nendpoints = [{}]\n\
         [clusters.rude.discovery]\nsource = \"static\"\nendpoints = [{}]\n",
        endpoints(&[good.address]),
        endpoints(&[rude.address])
    );
    let sidecar = Sidecar::ready(&config).await;
    let (duration, warm_up) = if long() { (secs(600), secs(120)) } else { (secs(15), secs(5)) };
    storm(&sidecar, secs(1)).await;
    let before = settled(&sidecar, 0..=usize::MAX).await;

    let mut memory = Vec::new();
    let storm = storm(&sidecar, duration);
    tokio::pin!(storm);
    let started = Instant::now();
    let mut samples = interval(secs(1));
    let done = loop {
        tokio::select! {
            done = &mut storm => break done,
            _ = samples.tick() => memory.push((started.elapsed(), sidecar.process.memory())),
        }
    };
    memory.retain(|(at, _)| *at >= warm_up);

    let after = settled(&sidecar, before.saturating_sub(5)..=before + 5).await;
    if long() {
        until(&sidecar, "outrigger_upstream_connections_active", secs(40)).await;
    }
    let slope = slope(&memory);
    println!(
        "{duration:?}: {done:?}; descriptors {before} before, {after} after; \
         {:.1} MiB after the warm-up, {:.1} MiB in the end, {:+.2} MiB in 10 minutes",
        memory[0].1 as f64 / MIB,
        sidecar.process.memory() as f64 / MIB,
        slope * 600.0 / MIB
    );
    assert!(done.good > 1000 && done.left > 100 && done.broken > 100, "{done:?}");
    assert!(!long() || slope * 600.0 <= MIB, "it grows by {slope} bytes a second");
    let log = sidecar.process.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Waits until nobody is connected and nothing is in flight. The value is how many descriptors
/// are open beside the idle connections to backends, once they are as many as `wanted`.
async fn settled(sidecar: &Sidecar, wanted: RangeInclusive<usize>) -> usize {
    until(sidecar, "outrigger_in_flight", secs(10)).await;
    until(sidecar, "outrigger_connections_active", secs(10)).await;
    eventually(&format!("{wanted:?} descriptors are open"), secs(5), || async {
        let pooled = sidecar.metric("outrigger_upstream_connections_active", &[]).await;
        let open = sidecar.process.descriptors() - pooled as usize;
        wanted.contains(&open).then_some(open)
    })
    .await
}

/// Waits until a gauge is 0.
async fn until(sidecar: &Sidecar, gauge: &str, patience: Duration) {
    eventually(&format!("{gauge} is 0"), patience, || async {
        (sidecar.metric(gauge, &[]).await == 0.0).then_some(())
    })
    .await;
}

/// What comes, goes back. A request that breaks off ends the connection.
fn echo(body: Incoming) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::unfold(body, |mut body| async {
        match body.frame().await? {
            Ok(frame) => Some((Ok(frame), body)),
            // A panic, but one that says nothing.
            Err(_) => std::panic::resume_unwind(Box::new("it broke off")),
        }
    })
}

/// Many apps at once, each with a seed of its own.
async fn storm(sidecar: &Sidecar, duration: Duration) -> Done {
    let (address, end) = (sidecar.web(), Instant::now() + duration);
    let mut apps = JoinSet::new();
    for seed in 0..APPS {
        apps.spawn(async move {
            let (mut rng, mut done) = (Rng::with_seed(seed), Done::default());
            while Instant::now() < end {
                done += something(address, &mut rng).await;
            }
            done
        });
    }
    let mut all = Done::default();
    while let Some(done) = apps.join_next().await {
        all += done.expect("every good request was answered well");
    }
    all
}

/// By how much it grows in a second, by least squares.
fn slope(samples: &[(Duration, usize)]) -> f64 {
    let count = samples.len() as f64;
    let points = || samples.iter().map(|(at, bytes)| (at.as_secs_f64(), *bytes as f64));
    let (x, y) = points().fold((0.0, 0.0), |sum, (x, y)| (sum.0 + x / count, sum.1 + y / count));
    let covariance: f64 = points().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}
