//! Active health checks: what backends are asked, and which answers pass.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use regex::bytes::Regex;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Health {
    pub probe: Probe,
    /// Asked instead of the port that traffic goes to.
    pub port: Option<u16>,
    /// `http` and `grpc`: wins over the cluster's.
    pub host: Option<HeaderValue>,
    pub interval: Duration,
    /// While a backend is unhealthy or pending.
    pub interval_unhealthy: Duration,
    pub timeout: Duration,
    pub rise: u16,
    pub fall: u16,
    /// Whether successful traffic stands for a probe of a healthy backend.
    pub skip_when_busy: bool,
}

impl Health {
    /// Whether a probe that passes shows that what serves the traffic answers; that a connection
    /// opens only shows that its kernel does.
    pub fn shows_answers(&self) -> bool {
        let answered = match &self.probe {
            Probe::Tcp => false,
            Probe::Udp(udp) => udp.expect.is_some(),
            Probe::Http(_) | Probe::Grpc { .. } => true,
        };
        answered && self.port.is_none()
    }
}

#[derive(Debug, Clone)]
pub enum Probe {
    Tcp,
    Udp(UdpProbe),
    Http(Box<HttpProbe>),
    /// `grpc.health.v1`; the empty service is the server as a whole.
    Grpc {
        service: String,
    },
}

#[derive(Debug, Clone)]
pub struct UdpProbe {
    /// May be empty: so may datagrams.
    pub send: Vec<u8>,
    /// What an answer begins with; empty: any answer. `None`: silence passes, too.
    pub expect: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub struct HttpProbe {
    pub method: Method,
    pub path: PathAndQuery,
    /// Values are marked sensitive.
    pub headers: HeaderMap,
    pub expect_status: Vec<RangeInclusive<u16>>,
    pub expect_body: Option<Regex>,
    pub expect_json: Vec<JsonCondition>,
}

/// What one place in a JSON body must be.
#[derive(Debug, Clone)]
pub struct JsonCondition {
    /// RFC 6901.
    pub pointer: String,
    pub expected: Expected,
}

#[derive(Debug, Clone)]
pub enum Expected {
    /// Text, a number or a truth value.
    Value(Value),
    /// Text, or the JSON of a number or a truth value.
    Matching(Regex),
    /// A number within these bounds; infinite where none is given.
    Within(RangeInclusive<f64>),
}
