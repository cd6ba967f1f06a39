//! How calls are made: again where that does no harm, and with the token of the moment.

use std::time::{Duration, Instant};

use outrigger_sdk::{Client, Error, Outcome};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::Sidecar;

#[tokio::test]
async fn what_may_be_repeated_is_and_outcomes_are_not() {
    let sidecar = Sidecar::start();
    let client = sidecar.client();
    sidecar.script.fail(&Status::unavailable("about to end"), 2);
    client.clusters().await.unwrap();
    assert_eq!(sidecar.script.asked().len(), 3);

    sidecar.script.fail(&Status::unavailable("about to end"), 1);
    let error = client.report("api", "b", Outcome::Reset, None, 1).await.unwrap_err();
    assert!(error.is_unavailable());
    assert_eq!(sidecar.script.asked().len(), 4);

    sidecar.script.fail(&Status::invalid_argument("no"), 1);
    client.clusters().await.unwrap_err();
    assert_eq!(sidecar.script.asked().len(), 5);
}

/// Who is told when there is room again comes again then, and at once learns if that is too late.
#[tokio::test]
async fn changes_that_come_too_fast_wait() {
    let sidecar = Sidecar::start();
    let too_fast = |retry_after| {
        let details = ErrorDetails::with_retry_info(Some(retry_after));
        Status::with_error_details(Code::ResourceExhausted, "too fast", details)
    };
    sidecar.script.fail(&too_fast(Duration::from_millis(20)), 5);
    let started = Instant::now();
    sidecar.client().clusters().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    sidecar.script.fail(&too_fast(Duration::from_millis(20)), 1);
    sidecar.client().lease("shop").await.unwrap();
    sidecar.script.fail(&too_fast(Duration::from_secs(3)), 1);
    let error = sidecar.client().clusters().await.unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error:?}");
    assert_eq!(sidecar.script.asked().len(), 9);
}

#[tokio::test]
async fn a_client_finds_the_sidecar_that_has_restarted() {
    let mut sidecar = Sidecar::start();
    let client = sidecar.client();
    client.clusters().await.unwrap();
    sidecar.kill();
    assert!(client.clusters().await.unwrap_err().is_unavailable());
    sidecar.start_again();
    client.clusters().await.unwrap();
}

#[tokio::test]
async fn the_token_is_read_anew_for_each_call() {
    let sidecar = Sidecar::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let builder = Client::builder().address(sidecar.address());
    let client = builder.token_file(file.path()).connect().unwrap();
    for token in ["one", "two"] {
        std::fs::write(file.path(), format!("{token}\n")).unwrap();
        client.clusters().await.unwrap();
    }
    Client::builder()
        .address(sidecar.address())
        .token("three")
        .connect()
        .unwrap()
        .clusters()
        .await
        .unwrap();
    sidecar.client().clusters().await.unwrap();
    let expected = [Some("Bearer one"), Some("Bearer two"), Some("Bearer three"), None];
    let expected = expected.map(|value| value.map(str::to_owned));
    assert_eq!(*sidecar.script.authorizations.lock().unwrap(), expected);

    file.close().unwrap();
    let error = client.clusters().await.unwrap_err();
    assert!(
        matches!(&error, Error::Denied { message } if message.contains("No such file")),
        "{error:?}"
    );
    let builder = Client::builder().address(sidecar.address()).token("secret");
    assert!(!format!("{builder:?}").contains("secret"));
    assert!(!format!("{:?}", builder.connect()).contains("secret"));
}
