//! Why a request has no answer of a backend, and what the app is told instead.

use http::StatusCode;

use super::h1::defect::Defect;
use crate::cluster::NoPick;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyError {
    NoBackend,
    NoEligibleBackend,
    /// Whoever may be used has as much work as it may have, and the queue is full or too slow.
    Overflow,
    /// No connection to a backend could be opened.
    ConnectFailed,
    /// The backend closed the connection before it answered.
    Reset,
    /// The backend's answer is not HTTP.
    UpstreamProtocol,
    /// The backend took longer than allowed.
    Timeout,
    NoRoute,
    /// The app's request is at fault.
    Refused(Defect),
}

impl From<NoPick> for ProxyError {
    fn from(none: NoPick) -> Self {
        match none {
            NoPick::NoBackend => Self::NoBackend,
            NoPick::NoEligibleBackend => Self::NoEligibleBackend,
            NoPick::Full => Self::Overflow,
        }
    }
}

impl From<Defect> for ProxyError {
    fn from(defect: Defect) -> Self {
        Self::Refused(defect)
    }
}

impl ProxyError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoBackend | Self::NoEligibleBackend | Self::Overflow | Self::ConnectFailed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Reset | Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Refused(defect) => defect.status(),
        }
    }

    /// The value of `x-outrigger-error`, and the label `reason` of `outrigger_errors_total`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::NoEligibleBackend => "no_eligible_backend",
            Self::Overflow => "overflow",
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::Timeout => "timeout",
            Self::NoRoute => "no_route",
            Self::Refused(_) => "bad_request",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::NoBackend => "the cluster has no backends",
            Self::NoEligibleBackend => "no backend of the cluster may be used now",
            Self::Overflow => "the cluster has as much work as it may have",
            Self::ConnectFailed => "no connection to a backend could be opened",
            Self::Reset => "the backend closed the connection before it answered",
            Self::UpstreamProtocol => "the backend's answer is not valid HTTP",
            Self::Timeout => "the backend did not answer in time",
            Self::NoRoute => "no route of the listener matches",
            Self::Refused(defect) => defect.why(),
        }
    }
}
