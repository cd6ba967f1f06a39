//! Errors, and the answers that they become: the only place where the sidecar speaks itself.

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use super::check::Refusal;
use super::headers::X_OUTRIGGER_ERROR;
use crate::cluster::NoPick;

/// Why a request has no answer of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyError {
    NoBackend,
    NoEligibleBackend,
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
    Refused(Refusal),
}

impl From<NoPick> for ProxyError {
    fn from(none: NoPick) -> Self {
        match none {
            NoPick::NoBackend => Self::NoBackend,
            NoPick::NoEligibleBackend => Self::NoEligibleBackend,
        }
    }
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl ProxyError {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::NoBackend | Self::NoEligibleBackend | Self::ConnectFailed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Reset | Self::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Refused(refusal) => refusal.status,
        }
    }

    /// The value of `x-outrigger-error`, and the label `reason` of `outrigger_errors_total`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NoBackend => "no_backend",
            Self::NoEligibleBackend => "no_eligible_backend",
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::Timeout => "timeout",
            Self::NoRoute => "no_route",
            Self::Refused(_) => "bad_request",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::NoBackend => "the cluster has no backends",
            Self::NoEligibleBackend => "no backend of the cluster may be used now",
            Self::ConnectFailed => "no connection to a backend could be opened",
            Self::Reset => "the backend closed the connection before it answered",
            Self::UpstreamProtocol => "the backend's answer is not valid HTTP",
            Self::Timeout => "the backend did not answer in time",
            Self::NoRoute => "no route of the listener matches",
            Self::Refused(refusal) => refusal.why,
        }
    }

    /// The answer for the app, as JSON where the request's `Accept` names it.
    pub(super) fn reply(self, request: &HeaderMap) -> Response<Bytes> {
        let (reason, message) = (self.reason(), self.message());
        let (content_type, text) = if accepts_json(request) {
            let error = serde_json::json!({ "error": { "code": reason, "message": message } });
            ("application/json", format!("{error}\n"))
        } else {
            ("text/plain; charset=utf-8", format!("outrigger: {reason}: {message}\n"))
        };
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(X_OUTRIGGER_ERROR, HeaderValue::from_static(reason));
        if let Self::Refused(refusal) = self {
            // Where the next request of this connection begins is no longer certain.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
        }
        response
    }
}

/// Sent when a head did not arrive in time: there is no request yet that could be answered.
pub(super) const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    connection: close\r\n\
    content-length: 0\r\n\
    x-outrigger-error: bad_request\r\n\r\n";

/// Sent to an app that speaks HTTP/2 where HTTP/1.1 is spoken.
pub(super) const HTTP2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    connection: close\r\n\
    content-length: 0\r\n\
    x-outrigger-error: bad_request\r\n\r\n";

fn accepts_json(request: &HeaderMap) -> bool {
    request.get_all(ACCEPT).iter().any(|value| {
        let mut types = value.as_bytes().split(|byte| *byte == b',');
        types.any(|kind| kind.trim_ascii_start().starts_with(b"application/json"))
    })
}
