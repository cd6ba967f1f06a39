//! What is answered instead, with the details that a program may go by (google.rpc).

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::cluster::OrderError;

/// What a caller has said is repeated up to here: answers have a bound, whatever was asked.
const NAME: usize = 100;
const EXPLANATION: usize = 300;

/// A field of the request has a value that is not accepted; `why` has both.
pub(super) fn invalid(field: &str, why: String) -> Status {
    let why = shorten(why, EXPLANATION);
    let message = format!("{field}: {why}");
    let details = ErrorDetails::with_bad_request_violation(field, why);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// There is none of this kind, `cluster`, `backend` or `lease`, that is called so.
pub(super) fn not_found(kind: &str, name: &str) -> Status {
    let name = shorten(name.into(), NAME);
    let message = format!("no {kind} is called {name:?}");
    let details = ErrorDetails::with_resource_info(kind, name, "", message.clone());
    Status::with_error_details(Code::NotFound, message, details)
}

/// An order that a cluster does not carry out.
pub(super) fn refused(error: &OrderError) -> Status {
    match error {
        OrderError::Unknown(name) => not_found("backend", name),
        OrderError::Ambiguous(..) => invalid("backend", error.to_string()),
        OrderError::TooMany(_) => full("orders", error.to_string()),
        OrderError::Lease => not_found("lease", "that"),
    }
}

/// There are as many as there may be.
pub(super) fn full(what: &str, why: String) -> Status {
    let message = format!("{what}: {why}");
    let details = ErrorDetails::with_quota_failure_violation(what, why);
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// Changes come faster than they may.
pub(super) fn too_fast(retry_after: Duration) -> Status {
    let message = format!("changes come too fast; the next one may in {retry_after:.0?}");
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

pub(super) fn stopping() -> Status {
    Status::unavailable("the sidecar is stopping")
}

/// It is known who calls, who may not do this.
pub(super) fn denied(why: impl Into<String>) -> Status {
    Status::permission_denied(why)
}

/// It is not known who calls.
pub(super) fn unauthenticated(why: impl Into<String>) -> Status {
    Status::unauthenticated(why)
}

/// So many characters at most.
pub(super) fn shorten(mut text: String, length: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(length) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_say_what_the_message_says() {
        let status = invalid("weight", "got 70000; accepted: 0..=65535".into());
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((status.code(), &*violations[0].field), (Code::InvalidArgument, "weight"));
        assert_eq!(status.message(), "weight: got 70000; accepted: 0..=65535");

        let status = not_found("cluster", "nobody");
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!((&*resource.resource_type, &*resource.resource_name), ("cluster", "nobody"));

        let status = full("pins", "65536 keys are pinned, as many as may be".into());
        let quota = status.get_details_quota_failure().unwrap().violations;
        assert_eq!((status.code(), &*quota[0].subject), (Code::ResourceExhausted, "pins"));

        let wait = Duration::from_millis(250);
        let retry = too_fast(wait).get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(wait));
    }

    #[test]
    fn an_answer_does_not_grow_with_the_question() {
        let absurd = "ä".repeat(1 << 20);
        for status in [not_found("cluster", &absurd), invalid("owner", format!("got {absurd}"))] {
            assert!(status.message().len() + status.details().len() < 2048);
        }
    }
}
