//! Nobody is left.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Response, StatusCode};
use outrigger_tests::backend::{Backend, config, full, unused_port};
use outrigger_tests::load::{Load, Tally, burst};
use outrigger_tests::nginx::Nginx;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{client, eventually, millis, secs};
use tokio::time::{Instant, sleep};

const INTERVAL: Duration = millis(500);
const CHECK: &str =
    "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"500ms\"\nrise = 1\nfall = 2\n";
const NO_PANIC: &str = "panic_threshold = \"0%\"\n";

/// So much traffic for two seconds, and what each of its attempts cost the sidecar: in panic a
/// request is tried at two backends.
async fn measure(sidecar: &Sidecar) -> (Tally, Duration) {
    let before = (sidecar.process.cpu(), attempts(sidecar).await);
    let load = Load::start(sidecar.web(), 16, 500);
    sleep(secs(2)).await;
    let tally = load.stop().await;
    let spent = sidecar.process.cpu() - before.0;
    // Where there is none, a request counts as one.
    let attempts = attempts(sidecar).await - before.1;
    let each = spent.div_f64(attempts.max(tally.total() as f64));
    (tally, each)
}

/// Requests that took the sidecar more than 10 ms. It is asked, because an app that shares the
/// processor with all of this sees what that makes of it.
async fn late(sidecar: &Sidecar) -> f64 {
    let name = "outrigger_request_duration_seconds";
    let all = sidecar.metric(&format!("{name}_count"), &[]).await;
    all - sidecar.metric(&format!("{name}_bucket"), &[("le", "0.01")]).await
}

async fn attempts(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_outcomes_total", &[]).await
}

fn reasons(tally: &Tally) -> Vec<&str> {
    let mut reasons: Vec<&str> = tally.failures.iter().map(|(_, reason)| &**reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

/// Kills four backends under load and brings them back.
async fn all_go_and_come_back(extra: &str, reason: &str) {
    let mut backends = Vec::new();
    for _ in 0..4 {
        backends.push(Nginx::start().await);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let sidecar = Sidecar::ready(&config(&addresses, &format!("{extra}{CHECK}"))).await;
    let (healthy, cost_healthy) = measure(&sidecar).await;
    healthy.assert_no_failures();

    let load = Load::start(sidecar.web(), 4, 100);
    for backend in &mut backends {
        backend.process.kill().await;
    }
    for address in &addresses {
        sidecar.until_state("api", &address.to_string(), "unhealthy", secs(5)).await;
    }
    load.stop().await;
    let own = [("reason", reason)];
    let before = sidecar.metric("outrigger_errors_total", &own).await;
    let late_before = late(&sidecar).await;
    let (down, cost_down) = measure(&sidecar).await;
    let late = late(&sidecar).await - late_before;
    let median = down.percentile(50);
    println!(
        "{reason}: median {median:?}, {late} above 10 ms of {}, {cost_down:?} an attempt, \
         {cost_healthy:?} while all were well",
        down.total()
    );
    let expected = format!("503 Service Unavailable Some(\"{reason}\")");
    assert_eq!(reasons(&down), [expected]);
    assert_eq!(down.failures.len(), down.total());
    assert!(median <= millis(10), "{median:?}");
    assert!(late <= down.total() as f64 / 100.0, "{late} of {} took longer", down.total());
    // A quarter is what the machine makes of the same work at different moments.
    assert!(
        cost_down <= cost_healthy.mul_f64(1.25),
        "{cost_down:?} an attempt, {cost_healthy:?} under load"
    );
    let counted = sidecar.metric("outrigger_errors_total", &own).await - before;
    assert_eq!(counted, down.total() as f64);
    assert_eq!(sidecar.metric("outrigger_eligible_backends", &[]).await, 0.0);

    backends.clear();
    let back = Nginx::at(addresses[0]).await;
    let since = Instant::now();
    eventually("there is an answer", secs(5), || async {
        (client::get(sidecar.web(), "/").await.ok()?.0 == 200).then_some(())
    })
    .await;
    let took = since.elapsed();
    println!("{reason}: recovered after {took:?}");
    // And the time that a probe and an answer take.
    assert!(took <= INTERVAL + millis(150), "{took:?}");
    drop(back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn with_panic_off_the_app_is_told_that_there_is_nobody() {
    all_go_and_come_back(NO_PANIC, "no_eligible_backend").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn in_panic_it_is_told_that_nobody_could_be_reached() {
    all_go_and_come_back("", "connect_failed").await;
}

/// From the start, with no backend at all or with one that nothing is known of.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_usable_backend_the_answer_is_503_in_under_10_ms() {
    for (addresses, reason) in [(vec![], "no_backend"), (vec![unused_port()], "connect_failed")] {
        let sidecar = Sidecar::ready(&config(&addresses, "")).await;
        let tally = burst(sidecar.web(), 1, 200).await;
        let expected = format!("503 Service Unavailable Some(\"{reason}\")");
        assert_eq!((reasons(&tally), tally.failures.len()), (vec![&*expected], 200));
        assert!(tally.percentile(99) < millis(10), "{reason}: p99 {:?}", tally.percentile(99));
        let errors = sidecar.metric("outrigger_errors_total", &[("reason", reason)]).await;
        assert_eq!(errors, 200.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_every_probe_fails_the_backends_are_used_all_the_same() {
    // Its probes fail, its traffic does not.
    let odd = Backend::answering(|request| async move {
        let mut response = Response::new(full("ok"));
        if request.uri().path() == "/health" {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    })
    .await;
    let check =
        "[clusters.api.health]\nprobe = \"http\"\npath = \"/health\"\ninterval = \"500ms\"\n";
    let sidecar = Sidecar::ready(&(config(&[odd.address], "") + check)).await;
    assert_eq!(sidecar.states("api").await[0].1, "unhealthy");
    burst(sidecar.web(), 2, 50).await.assert_no_failures();
    assert_eq!(sidecar.cluster("api").await["panic"], true);
    eventually("the metric says so", secs(3), || async {
        (sidecar.metric("outrigger_panic", &[]).await == 1.0).then_some(())
    })
    .await;
}
