//! The last good set of every cluster, on disk: what serves a start without discovery.
//!
//! One file a cluster, which under its name is always whole. What it says is judged as anything from
//! outside is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cluster::{Cluster, Endpoint, MAX_ENDPOINTS, Reported, Snapshot, WEIGHT_ONE};
use crate::config::{self, Source};
use crate::disk::{self, Draft, Unreadable};
use crate::net::Address;

/// Within the state directory.
const FOLDER: &str = "endpoints";
const FORMAT: u32 = 1;
const MAX_SIZE: u64 = 4 << 20;
/// Sets are written no more often, and the same one once more after this, so that its age is right.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// What a cluster's source had said in an earlier life.
#[derive(Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The source, by its place in the configuration.
    pub source: usize,
    pub saved_at: SystemTime,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: u32,
    cluster: String,
    /// What the source is asked for.
    source: String,
    /// RFC 3339.
    saved_at: String,
    endpoints: Vec<SavedEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEndpoint {
    address: String,
    /// In 256ths.
    weight: u32,
    priority: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

/// What is remembered of this cluster. A file that is of no use is set aside.
pub fn recall(dir: &Path, settings: &config::Cluster) -> Option<Recalled> {
    let path = file_of(dir, &settings.name);
    match read(&path).and_then(|saved| saved.map(|saved| saved.judge(settings)).transpose()) {
        Ok(recalled) => recalled,
        Err(why) => {
            let aside = path.with_extension("json.bad");
            let (from, to) = (path.display(), aside.display());
            match fs::rename(&path, &aside) {
                Ok(()) => tracing::warn!("{from} is set aside as {to}: {why}"),
                Err(e) => tracing::warn!("{from} is of no use: {why}; it cannot be set aside: {e}"),
            }
            None
        }
    }
}

/// Keeps what a cluster serves from on disk, for as long as the sidecar runs.
pub async fn keep(cluster: Arc<Cluster>, dir: PathBuf) {
    if cluster.settings.sources.iter().all(is_known) {
        return;
    }
    let path = file_of(&dir, cluster.name());
    sweep(&path).await;
    let mut versions = cluster.version();
    let mut written: Option<(Instant, Vec<SavedEndpoint>)> = None;
    let mut said = None;
    loop {
        // A change of the cluster, or the time to say that nothing has changed.
        let _ = tokio::time::timeout(RENEW_EVERY, versions.changed()).await;
        if let Some(saved) = Saved::of(&cluster, &cluster.snapshot()) {
            let due = |(at, endpoints): &(Instant, _)| {
                at.elapsed() >= RENEW_EVERY || *endpoints != saved.endpoints
            };
            if written.as_ref().is_none_or(due) {
                let (to, endpoints) = (path.clone(), saved.endpoints.clone());
                let done = tokio::task::spawn_blocking(move || write(&to, &saved)).await;
                let failed = done.map_err(io::Error::other).and_then(|done| done).err();
                say(&path, failed.map(|e| e.to_string()), &mut said);
                written = said.is_none().then(|| (Instant::now(), endpoints));
            }
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
}

/// What is in the configuration itself need not be remembered.
fn is_known(source: &Source) -> bool {
    matches!(source, Source::Static(_))
}

/// An earlier life may have ended while it wrote.
async fn sweep(path: &Path) {
    let of = path.to_owned();
    let swept = tokio::task::spawn_blocking(move || disk::sweep(&of)).await;
    match swept.map_err(io::Error::other).and_then(|swept| swept) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("{}: drafts cannot be cleaned up: {e}", path.display());
        }
        _ => {}
    }
}

/// A disk that is full is full for a while: it is said once.
fn say(path: &Path, failed: Option<String>, said: &mut Option<String>) {
    if let Some(why) = failed.as_ref().filter(|why| said.as_ref() != Some(*why)) {
        let path = path.display();
        tracing::warn!("{path}: cannot be written, a restart without discovery has less: {why}");
    }
    *said = failed;
}

fn file_of(dir: &Path, cluster: &str) -> PathBuf {
    dir.join(FOLDER).join(format!("{cluster}.json"))
}

/// `None`: there is none.
fn read(path: &Path) -> Result<Option<Saved>, String> {
    match disk::read(path, MAX_SIZE) {
        Err(Unreadable::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        text => serde_json::from_slice(&text.map_err(|e| e.to_string())?)
            .map(Some)
            .map_err(|e| e.to_string()),
    }
}

fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    Draft::write(path, &serde_json::to_vec(saved)?)?.replace()
}

impl Saved {
    /// What is worth to be remembered of a cluster now; `None`: nothing, or nothing that its source
    /// stands by.
    fn of(cluster: &Cluster, snapshot: &Snapshot) -> Option<Self> {
        let source = cluster.settings.sources.get(snapshot.source?)?;
        // Whom the source does not want used is not to be found usable by a later life.
        let wanted = |entry: &&crate::cluster::Entry| {
            let removed = entry.leaving.is_some_and(|leaving| leaving.removed);
            !removed && entry.backend.endpoint.reported == Reported::Passing
        };
        let endpoints: Vec<_> =
            snapshot.entries.iter().filter(wanted).map(|e| (&e.backend.endpoint).into()).collect();
        let live = snapshot.stale_since.is_none() && !is_known(source);
        (live && !endpoints.is_empty()).then(|| Self {
            format: FORMAT,
            cluster: cluster.name().into(),
            source: source.question(),
            saved_at: humantime::format_rfc3339(SystemTime::now()).to_string(),
            endpoints,
        })
    }

    fn judge(self, settings: &config::Cluster) -> Result<Recalled, String> {
        if self.format != FORMAT {
            return Err(format!("its format is {}, not {FORMAT}", self.format));
        }
        if *self.cluster != *settings.name {
            return Err(format!("it is of a cluster {:?}", self.cluster));
        }
        let source = settings.sources.iter().position(|source| source.question() == self.source);
        let source = source.ok_or(format!("the cluster has no source {:?}", self.source))?;
        let saved_at = humantime::parse_rfc3339(&self.saved_at).map_err(|e| e.to_string())?;
        if self.endpoints.is_empty() || self.endpoints.len() > MAX_ENDPOINTS {
            return Err(format!("it has {} endpoints", self.endpoints.len()));
        }
        let endpoints: Result<_, String> =
            self.endpoints.into_iter().map(SavedEndpoint::judge).collect();
        Ok(Recalled { source, saved_at, endpoints: endpoints? })
    }
}

impl From<&Endpoint> for SavedEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
            priority: endpoint.priority,
            target: endpoint.target.as_deref().map(Into::into),
            node: endpoint.node.as_deref().map(Into::into),
        }
    }
}

impl SavedEndpoint {
    fn judge(self) -> Result<Endpoint, String> {
        let wrong = |what: &str| format!("{:?} has {what}", self.address);
        let address: Address = self.address.parse().map_err(|_| wrong("no address"))?;
        if matches!(address, Address::Tcp(tcp) if tcp.port() == 0) {
            return Err(wrong("port 0"));
        }
        // A target is sent in requests, so it has the letters of host names only.
        let plain = |text: &String| {
            text.len() <= 255
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !self.target.as_ref().is_none_or(plain) {
            return Err(wrong("a target that is no name"));
        }
        // Several records of the largest weight may add up.
        let weight = self.weight.min(u32::from(u16::MAX).saturating_mul(WEIGHT_ONE));
        Ok(Endpoint {
            target: self.target.map(Into::into),
            node: self.node.map(Into::into),
            weight,
            priority: self.priority,
            ..Endpoint::new(address)
        })
    }
}

#[cfg(test)]
mod tests;
