//! A sidecar that is not there, or does not answer: the app is told so, soon.

use std::time::Duration;

use futures_util::TryStreamExt;
use outrigger_sdk::{Balancer, Client, Error, Outcome};
use tokio::time::Instant;

use crate::fake::Sidecar;

const TTL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_call_says_at_once_that_nobody_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/none.sock", dir.path().display());
    let client = Client::builder().address(address).connect().unwrap();
    let started = Instant::now();
    let errors = [
        client.clusters().await.unwrap_err(),
        client.watch("api").try_next().await.unwrap_err(),
        client.lease("shop").await.unwrap_err(),
        client.set_weight("api", "b", 1, TTL).await.unwrap_err(),
        client.clear_weight("api", "b").await.unwrap_err(),
        client.set_affinity("api", "k", None, TTL).await.unwrap_err(),
        client.affinity("api", "k").await.unwrap_err(),
        client.clear_affinity("api", "k").await.unwrap_err(),
        client.drain("api", "b", None, TTL).await.unwrap_err(),
        client.resume("api", "b").await.unwrap_err(),
        client.wait_drained("api", "b").await.unwrap_err(),
        client.report("api", "b", Outcome::Reset, None, 1).await.unwrap_err(),
        client.events(None, 0, TTL).await.unwrap_err(),
        client.explain("api", None).await.unwrap_err(),
        Balancer::new(client, "api").await.unwrap_err(),
    ];
    for error in &errors {
        assert!(error.is_unavailable(), "{error:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// Whoever listens but never answers is given up at the deadline.
#[tokio::test]
async fn who_does_not_answer_is_given_up_at_the_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let deadline = Duration::from_millis(200);
    let client = Client::builder().address(address).deadline(deadline).connect().unwrap();
    let started = Instant::now();
    let errors = [
        client.clusters().await.unwrap_err(),
        client.lease("shop").await.unwrap_err(),
        client.watch("api").try_next().await.unwrap_err(),
        Balancer::new(client.clone(), "api").await.unwrap_err(),
    ];
    for error in &errors {
        assert!(matches!(error, Error::Unavailable(why) if why.contains("200ms")), "{error:?}");
    }
    let took = started.elapsed();
    assert!(deadline * 4 <= took && took < deadline * 6, "{took:?}");
}

/// A wait without a deadline ends with the sidecar.
#[tokio::test]
async fn a_wait_ends_with_the_sidecar() {
    let mut sidecar = Sidecar::start();
    let client = sidecar.client();
    let waiting = tokio::spawn(async move { client.wait_drained("api", "b").await });
    crate::eventually("it waits", async || (!sidecar.script.asked().is_empty()).then_some(()))
        .await;
    sidecar.kill();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    for address in ["", "localhost", "unix:", "a b:1", "http://127.0.0.1:9911/x"] {
        let error = Client::builder().address(address).connect().unwrap_err();
        let Error::Invalid { violations, .. } = error else { panic!("{address}: {error:?}") };
        assert_eq!(violations[0].field, "address");
        let expected = format!("want HOST:PORT or unix:PATH, got `{address}`");
        assert_eq!(violations[0].description, expected);
    }
}
