//! What the sidecar says is wrong, as the app sees it.

use std::time::Duration;

use outrigger_sdk::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::fake::Sidecar;

async fn error(status: &Status) -> Error {
    let sidecar = Sidecar::start();
    sidecar.script.fail(status, 10);
    sidecar.client().clusters().await.unwrap_err()
}

#[tokio::test]
async fn each_has_its_details() {
    let details = ErrorDetails::with_resource_info("cluster", "apj", "", "there are: api");
    let status = Status::with_error_details(Code::NotFound, "no cluster `apj`", details);
    let not_found = error(&status).await;
    let Error::NotFound { kind, name, message } = not_found else { panic!("{not_found:?}") };
    assert_eq!([kind, name, message], ["cluster", "apj", "no cluster `apj`"]);

    let details = ErrorDetails::with_bad_request_violation("weight", "want 0..=65535, got 70000");
    let status = Status::with_error_details(Code::InvalidArgument, "weight", details);
    let invalid = error(&status).await;
    let Error::Invalid { violations, .. } = invalid else { panic!("{invalid:?}") };
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, "weight");
    assert_eq!(violations[0].description, "want 0..=65535, got 70000");

    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(20)));
    let status = Status::with_error_details(Code::ResourceExhausted, "too fast", details);
    let exhausted = error(&status).await;
    let Error::Exhausted { retry_after, .. } = exhausted else { panic!("{exhausted:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(20)));
}

#[tokio::test]
async fn without_details_they_have_their_kind() {
    assert!(matches!(error(&Status::not_found("")).await, Error::NotFound { .. }));
    assert!(matches!(error(&Status::invalid_argument("")).await, Error::Invalid { .. }));
    let exhausted = error(&Status::resource_exhausted("")).await;
    assert!(matches!(exhausted, Error::Exhausted { retry_after: None, .. }));
    assert!(matches!(error(&Status::unauthenticated("")).await, Error::Denied { .. }));
    assert!(matches!(error(&Status::permission_denied("")).await, Error::Denied { .. }));
    assert!(error(&Status::unavailable("")).await.is_unavailable());
    let other = error(&Status::unimplemented("later")).await;
    assert_eq!(other.to_string(), format!("{}: later", Code::Unimplemented));
}
