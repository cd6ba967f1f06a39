//! `POST /api/v1/clusters/{cluster}/affinity`: binds a key to a backend, or takes that back. Where a key
//! leads is said by `/api/v1/explain`.

use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::orders::{Refused, duration, find, invalid, no_such_backend, parse, read, stopping};
use super::{Admin, Reply, error, json};
use crate::cluster::affinity::{MAX_KEY, MAX_PINS};
use crate::cluster::{Cluster, Event, Owner, Pinning, Unpinning};
use crate::config::DurationText;

/// The body.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AffinityBody {
    /// 1 to 256 bytes.
    pub key: String,
    /// A backend's name, or a target's that only one backend has; null or left out: takes the pin back.
    pub backend: Option<String>,
    /// After which the pin ends, `"10m"`; by default it lasts until it is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationText>,
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct AffinityView {
    pub cluster: String,
    pub key: String,
    /// The backend that it is pinned to now.
    pub backend: Option<String>,
    /// Whether it was pinned before, if the pin was taken back.
    pub cleared: bool,
}

/// The name of the cluster; `None`: the path is another.
pub(super) fn path(path: &str) -> Option<String> {
    let name = path.strip_prefix("/api/v1/clusters/")?.strip_suffix("/affinity")?;
    let name = percent_decode_str(name).decode_utf8().ok()?;
    (!name.contains('/')).then(|| name.into_owned())
}

pub(super) async fn carry_out(admin: &Admin, cluster: &str, body: Incoming) -> Reply {
    match change(admin, cluster, body).await {
        Ok(view) => json(StatusCode::OK, &view),
        Err(Refused(status, code, message)) => error(status, code, &message),
    }
}

async fn change(admin: &Admin, cluster: &str, body: Incoming) -> Result<AffinityView, Refused> {
    let cluster = find(admin, cluster)?;
    let body: AffinityBody = parse(&read(body).await?)?;
    if !(1..=MAX_KEY).contains(&body.key.len()) {
        let length = body.key.len();
        return Err(invalid(format!("key: got {length} bytes; accepted: 1 to {MAX_KEY}")));
    }
    let (mut backend, mut cleared) = (None, false);
    match body.backend {
        Some(name) => backend = Some(pin(cluster, &body.key, name, body.ttl).await?.to_string()),
        None if body.ttl.is_some() => {
            return Err(invalid("ttl: there is no backend beside it".into()));
        }
        None => cleared = unpin(cluster, &body.key).await?,
    }
    Ok(AffinityView { cluster: cluster.name().into(), key: body.key, backend, cleared })
}

async fn pin(
    cluster: &Arc<Cluster>,
    key: &str,
    backend: String,
    ttl: Option<DurationText>,
) -> Result<Arc<str>, Refused> {
    let (key, owner, ttl) = (key.as_bytes().into(), Owner::admin(), duration("ttl", ttl)?);
    let pin = |reply| Event::Pin(Pinning { key, backend, owner, ttl, reply });
    match cluster.ask(pin).await.ok_or_else(stopping)? {
        Some(pinned) => pinned.map_err(|wrong| no_such_backend(cluster, &wrong)),
        None => {
            let message = format!("{MAX_PINS} keys are pinned, as many as may be");
            Err(Refused(StatusCode::TOO_MANY_REQUESTS, "too_many", message))
        }
    }
}

async fn unpin(cluster: &Cluster, key: &str) -> Result<bool, Refused> {
    let (key, owner) = (key.as_bytes().into(), Owner::admin());
    let unpin = |reply| Event::Unpin(Unpinning { key, owner, reply });
    cluster.ask(unpin).await.ok_or_else(stopping)
}
