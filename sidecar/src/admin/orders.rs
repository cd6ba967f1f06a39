//! `POST /api/v1/clusters/{cluster}/backends/{backend}/drain`, `…/resume` and `…/weight`: what an
//! operator wants of a backend, answered once picks follow it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::clusters::BackendView;
use super::{Admin, Reply, error, fleet, json};
use crate::cluster::{Cluster, Event, Order, OrderError, What};
use crate::config::DurationText;

/// Bytes of a body; what is asked for takes a few dozen.
const MAX_BODY: usize = 1 << 20;
/// How long a client may take to send it, and the cluster to carry it out.
const WHOLE: Duration = Duration::from_secs(10);

/// What a path asks for, and of whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OrderPath {
    cluster: String,
    backend: String,
    verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Drain,
    Resume,
    Weight,
}

/// The body of a drain; every key may be left out, as may the body.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainBody {
    /// When what is left is ended by force, `"30s"`; by default as the cluster's configuration
    /// says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationText>,
    /// Whether all sidecars are to obey, and not this one alone.
    pub fleet: bool,
}

/// The body of a resume.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeBody {
    /// Whether the order for the fleet is taken back, and not the one to this sidecar.
    pub fleet: bool,
    /// Whether the orders of apps are taken back, too.
    pub all: bool,
}

/// The body of a weight.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightBody {
    /// 0..=65535, instead of the one that discovery gives; null or left out: that one again.
    pub weight: Option<u16>,
    /// After which that one holds again, `"10m"`; by default it lasts until it is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationText>,
    /// Whether all sidecars are to obey, and not this one alone.
    pub fleet: bool,
    /// Without a weight: whether the orders of apps are taken back, too.
    pub all: bool,
}

/// The answer: the backend as it is now.
#[derive(Debug, Serialize, Deserialize)]
pub struct OrderedView {
    pub cluster: String,
    pub backend: BackendView,
}

/// What a body asks for.
#[derive(Debug)]
struct Wish {
    what: What,
    ttl: Option<Duration>,
    fleet: bool,
}

/// Why an order is not carried out: status, code and message of the answer.
#[derive(Debug)]
pub(super) struct Refused(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

impl OrderPath {
    /// `None`: the path is no order.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix("/api/v1/clusters/")?.split('/');
        let mut next = || segments.next().map(|segment| percent_decode_str(segment).decode_utf8());
        let cluster = next()?.ok()?.into_owned();
        if next()?.ok()? != "backends" {
            return None;
        }
        let backend = next()?.ok()?.into_owned();
        let verb = match &*next()?.ok()? {
            "drain" => Verb::Drain,
            "resume" => Verb::Resume,
            "weight" => Verb::Weight,
            _ => return None,
        };
        next().is_none().then_some(Self { cluster, backend, verb })
    }

    pub(super) async fn carry_out(self, admin: &Admin, body: Incoming) -> Reply {
        match tokio::time::timeout(WHOLE, self.ordered(admin, body)).await {
            Ok(Ok(view)) => json(StatusCode::OK, &view),
            Ok(Err(Refused(status, code, message))) => error(status, code, &message),
            Err(_) => error(StatusCode::REQUEST_TIMEOUT, "timeout", "this took longer than 10 s"),
        }
    }

    async fn ordered(self, admin: &Admin, body: Incoming) -> Result<OrderedView, Refused> {
        let cluster = find(admin, &self.cluster)?;
        let Wish { what, ttl, fleet } = self.verb.understand(&read(body).await?)?;
        let name = match fleet {
            true => fleet::carry_out(admin, cluster, &self.backend, what, ttl).await?,
            false => carry_out(cluster, self.backend, what, ttl).await?,
        };
        let snapshot = cluster.snapshot();
        let entry = snapshot.entries.iter().find(|entry| entry.backend.name == name);
        let Some(entry) = entry else { return Err(gone(&name)) };
        let backend = BackendView::of(entry, cluster.settings.source_kind(snapshot.source));
        Ok(OrderedView { cluster: self.cluster, backend })
    }
}

impl Verb {
    fn understand(self, body: &[u8]) -> Result<Wish, Refused> {
        let (what, ttl, fleet) = match self {
            Self::Drain => {
                let body: DrainBody = parse(body)?;
                let timeout = duration("timeout", body.timeout)?;
                (What::Drain { timeout }, None, body.fleet)
            }
            Self::Weight => {
                let body: WeightBody = parse(body)?;
                let ttl = duration("ttl", body.ttl)?;
                let what = match body.weight {
                    Some(_) if body.all => {
                        return Err(invalid("all: it takes back, and gives no weight".into()));
                    }
                    Some(weight) => What::Weight { weight },
                    None if ttl.is_some() => {
                        return Err(invalid("ttl: there is no weight beside it".into()));
                    }
                    None => What::ResetWeight { all: body.all },
                };
                (what, ttl, body.fleet)
            }
            Self::Resume => {
                let body: ResumeBody = parse(body)?;
                (What::Resume { all: body.all }, None, body.fleet)
            }
        };
        Ok(Wish { what, ttl, fleet })
    }
}

/// The cluster of this name.
pub(super) fn find<'a>(admin: &'a Admin, name: &str) -> Result<&'a Arc<Cluster>, Refused> {
    admin.clusters.iter().find(|known| known.name() == name).ok_or_else(|| {
        let known: Vec<_> = admin.clusters.iter().map(|cluster| cluster.name()).collect();
        let message = format!("no cluster is called {name:?}; there are: {}", known.join(", "));
        Refused(StatusCode::NOT_FOUND, "not_found", message)
    })
}

pub(super) fn duration(key: &str, text: Option<DurationText>) -> Result<Option<Duration>, Refused> {
    let parsed = text.map(|text| text.parse().ok_or(text)).transpose();
    parsed.map_err(|text| {
        invalid(format!("{key}: got {:?}; accepted: {}", text.0, DurationText::ACCEPTS))
    })
}

pub(super) async fn read(body: Incoming) -> Result<Vec<u8>, Refused> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(e) => Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", e.to_string())),
    }
}

pub(super) fn parse<'b, T: Default + Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refused> {
    match body.trim_ascii() {
        [] => Ok(T::default()),
        body => serde_json::from_slice(body).map_err(|e| invalid(format!("the body: {e}"))),
    }
}

pub(super) fn stopping() -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "it is stopping".into())
}

pub(super) fn invalid(message: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, "invalid_argument", message)
}

fn gone(name: &str) -> Refused {
    Refused(StatusCode::NOT_FOUND, "not_found", format!("{name} has left the cluster"))
}

/// Has the cluster's task carry it out; the name of the backend that it was.
async fn carry_out(
    cluster: &Arc<Cluster>,
    backend: String,
    what: What,
    ttl: Option<Duration>,
) -> Result<Arc<str>, Refused> {
    let (order, outcome) = Order::new(backend, what);
    let order = order.lasting(ttl);
    cluster.events().send(Event::Order(order)).await.map_err(|_| stopping())?;
    let carried = outcome.await.map_err(|_| stopping())?;
    carried.map(|carried| carried.backend).map_err(|e| no_such_backend(cluster, &e))
}

pub(super) fn no_such_backend(cluster: &Cluster, error: &OrderError) -> Refused {
    let (status, code) = match error {
        OrderError::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
        OrderError::Ambiguous(..) => (StatusCode::CONFLICT, "ambiguous"),
        OrderError::TooMany(_) | OrderError::Lease => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
    };
    Refused(status, code, format!("cluster `{}`: {error}", cluster.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_cluster_a_backend_and_what_is_wanted_of_it() {
        let path = |backend: &str, verb| {
            let (cluster, backend) = ("api".to_owned(), backend.to_owned());
            Some(OrderPath { cluster, backend, verb })
        };
        let parse = |rest: &str| OrderPath::parse(&format!("/api/v1/clusters/{rest}"));
        assert_eq!(parse("api/backends/10.0.0.1:80/drain"), path("10.0.0.1:80", Verb::Drain));
        assert_eq!(parse("api/backends/%5B::1%5D:80/resume"), path("[::1]:80", Verb::Resume));
        assert_eq!(parse("api/backends/unix:%2Frun%2Fa/drain"), path("unix:/run/a", Verb::Drain));
        for other in ["api", "api/backends/b", "api/backends/b/stop", "api/b/drain", "a/b/c/drain"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse("api/backends/b/drain/now"), None);
        assert_eq!(parse("api/backends/%FF/drain"), None);
    }

    #[test]
    fn bodies_may_be_left_out_but_not_be_misunderstood() {
        let drain = |body: &str| Verb::Drain.understand(body.as_bytes()).map(|wish| wish.what);
        let timeout = |body| match drain(body) {
            Ok(What::Drain { timeout }) => timeout,
            other => panic!("{other:?}"),
        };
        assert_eq!((timeout(""), timeout("{}")), (None, None));
        assert_eq!(timeout("{\"timeout\": \"90s\"}"), Some(Duration::from_secs(90)));
        for body in ["{\"timeout\": 5}", "{\"timeout\": \"0s\"}", "{\"time\": \"1s\"}", "x"] {
            assert_eq!(drain(body).unwrap_err().0, 400, "{body}");
        }
        assert!(Verb::Resume.understand(b"{\"timeout\": \"1s\"}").is_err());
    }
    #[test]
    fn weights_are_numbers_and_none_is_a_reset() {
        let weight =
            |body: &str| Verb::Weight.understand(body.as_bytes()).map(|wish| (wish.what, wish.ttl));
        let ten_minutes = Some(Duration::from_secs(600));
        assert_eq!(
            weight("{\"weight\": 65535, \"ttl\": \"10m\"}").unwrap(),
            (What::Weight { weight: 65535 }, ten_minutes)
        );
        let reset = weight("{\"weight\": null, \"all\": true}").unwrap();
        assert_eq!(reset, (What::ResetWeight { all: true }, None));
        assert!(weight("{\"weight\": 1, \"all\": true}").is_err());
        for body in ["{\"weight\": 65536}", "{\"weight\": -1}", "{\"ttl\": \"1m\"}"] {
            assert_eq!(weight(body).unwrap_err().0, 400, "{body}");
        }
    }
}
