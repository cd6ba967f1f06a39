//! Answers of our own, as bytes.

use std::io::Write;

use super::defect::Defect;
use super::fields::Kind;
use super::head::Request;
use super::write::connection;
use crate::proxy::http::error::ProxyError;

/// Writes the answer to a request that no backend answered, as JSON where its `Accept` names it.
pub(super) fn error(out: &mut Vec<u8>, error: ProxyError, request: &Request<'_>, close: bool) {
    let (reason, message) = (error.reason(), error.message());
    let (kind, text) = if accepts_json(request) {
        let error = serde_json::json!({ "error": { "code": reason, "message": message } });
        ("application/json", format!("{error}\n"))
    } else {
        ("text/plain; charset=utf-8", format!("outrigger: {reason}: {message}\n"))
    };
    let status = error.status();
    let more = match error {
        ProxyError::Refused(Defect::Method) => {
            "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
        }
        ProxyError::Overflow => "Retry-After: 1\r\n",
        _ => "",
    };
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "HTTP/1.1 {} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         X-Outrigger-Error: {reason}\r\n{more}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        text.len()
    );
    connection(out, request.http10, close);
    out.extend_from_slice(b"\r\n");
    if request.method != "HEAD" {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Writes the answer to what is no request.
pub(super) fn refusal(out: &mut Vec<u8>, defect: Defect) {
    let (status, why) = (defect.status(), defect.why());
    let text = format!("outrigger: bad_request: {why}\n");
    let _ = write!(
        out,
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Outrigger-Error: bad_request\r\nConnection: close\r\n\r\n{text}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        text.len()
    );
}

fn accepts_json(request: &Request<'_>) -> bool {
    request.fields.members(Kind::Accept).any(|kind| kind.starts_with(b"application/json"))
}
