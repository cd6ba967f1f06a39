//! What can go wrong, by what an app can do about it.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a call has come to nothing. Whatever it is, nothing has changed in the sidecar, but where an
/// answer was lost on its way (`Unavailable`).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sidecar is not there, is about to end, or did not answer in time. Later it may.
    #[error("the sidecar is not available: {0}")]
    Unavailable(String),
    /// There is no such thing; `kind` is `cluster`, `backend` or `lease`.
    #[error("{message}")]
    NotFound { kind: String, name: String, message: String },
    /// What was asked for is not accepted: each field, and what it may be.
    #[error("{message}")]
    Invalid { violations: Vec<Violation>, message: String },
    /// A table of the sidecar is full, or changes come too fast: then it says after what time to go on.
    #[error("{message}")]
    Exhausted { retry_after: Option<Duration>, message: String },
    /// Who calls is not known to the sidecar, or may not do this.
    #[error("{message}")]
    Denied { message: String },
    /// Anything else, as gRPC has it.
    #[error("{}: {}", .0.code(), .0.message())]
    Other(Status),
}

/// A field that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    /// The value, and what is accepted.
    pub description: String,
}

impl Error {
    /// A field that was found wrong on this side.
    pub(crate) fn invalid(field: &str, description: String) -> Self {
        let message = format!("{field}: {description}");
        Self::Invalid { violations: vec![Violation { field: field.into(), description }], message }
    }

    pub(crate) fn lost(what: &str) -> Self {
        Self::Unavailable(what.into())
    }

    /// Whether the same call may succeed as soon as the sidecar is there.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            // Whatever its code, it is not the sidecar that has said so, but the connection.
            _ if std::error::Error::source(&status).is_some() => Self::Unavailable(message),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unavailable(message)
            }
            Code::NotFound => {
                let resource = status.get_details_resource_info();
                let named = resource.map(|r| (r.resource_type, r.resource_name));
                let (kind, name) = named.unwrap_or_default();
                Self::NotFound { kind, name, message }
            }
            Code::InvalidArgument => Self::Invalid { violations: violations(&status), message },
            Code::ResourceExhausted => {
                let retry = status.get_details_retry_info();
                Self::Exhausted { retry_after: retry.and_then(|info| info.retry_delay), message }
            }
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied { message },
            _ => Self::Other(status),
        }
    }
}

fn violations(status: &Status) -> Vec<Violation> {
    let request = status.get_details_bad_request();
    let violations = request.into_iter().flat_map(|request| request.field_violations);
    violations.map(|v| Violation { field: v.field, description: v.description }).collect()
}
