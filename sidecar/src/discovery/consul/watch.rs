//! One watch per question: what Consul says now, for everyone who asks it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Consul;
use super::client::{ConsulError, Question, Reply};
use super::instances::{Instances, parse};
use super::pace::{Pace, next_index};
use crate::config::{self, ConsulName, ConsulService};

/// Prepared queries wait for nothing: they are asked this often, less up to a tenth.
const QUERY_EVERY: Duration = Duration::from_secs(10);
/// Denied access is said aloud again after this.
const DENIED_AGAIN: Duration = Duration::from_secs(60);

/// What Consul is asked about a service; what clusters then choose of it may differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    name: ConsulName,
    datacenter: Option<String>,
    namespace: Option<String>,
    filter: Option<String>,
}

/// The latest answer, or why there is none; `None` before the first.
pub(super) type Heard = watch::Receiver<Option<Result<Arc<Instances>, String>>>;
type Tell = watch::Sender<Option<Result<Arc<Instances>, String>>>;

/// The watches that there are.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Asked, Heard>>);

impl Asked {
    pub(super) fn of(service: &ConsulService) -> Self {
        Self {
            name: service.name.clone(),
            datacenter: service.datacenter.clone(),
            namespace: service.namespace.clone(),
            filter: service.filter.clone(),
        }
    }

    /// The path of the question; with `index`, the answer is to differ from that one.
    pub(super) fn path(&self, settings: &config::Consul, index: Option<u64>) -> String {
        let (datacenter, namespace) = (self.datacenter.as_deref(), self.namespace.as_deref());
        let mut query = parameters(datacenter, namespace, settings.stale);
        if let Some(filter) = &self.filter {
            query += &format!("&filter={}", encoded(filter));
        }
        if let Some(index) = index {
            query += &format!("&index={index}&wait={}ms", settings.wait.as_millis());
        }
        match &self.name {
            ConsulName::Service(name) => format!("/v1/health/service/{}?{query}", encoded(name)),
            ConsulName::Query(name) => format!("/v1/query/{}/execute?{query}", encoded(name)),
        }
    }
}

/// What every question says.
pub(super) fn parameters(datacenter: Option<&str>, namespace: Option<&str>, stale: bool) -> String {
    let mut query = String::from(if stale { "stale" } else { "" });
    for (key, value) in [("dc", datacenter), ("ns", namespace)] {
        if let Some(value) = value {
            query += &format!("&{key}={}", encoded(value));
        }
    }
    query
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Watches {
    /// Listens to the watch for this question, which begins if there is none.
    pub(super) fn hear(&self, consul: &Arc<Consul>, asked: &Asked) -> Heard {
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = watches.get(asked).filter(|heard| heard.has_changed().is_ok()) {
            let mut heard = heard.clone();
            heard.mark_changed();
            return heard;
        }
        let (tell, heard) = watch::channel(None);
        watches.insert(asked.clone(), heard.clone());
        let (consul, asked) = (Arc::clone(consul), asked.clone());
        tokio::spawn(async move { follow(&consul, &asked, &tell).await });
        heard
    }
}

/// Asks for as long as somebody listens.
async fn follow(consul: &Consul, asked: &Asked, tell: &Tell) {
    let mut latest: Option<Arc<Instances>> = None;
    let hear = |reply: &Reply| -> Result<(), ConsulError> {
        let instances = parse(&asked.name, &reply.body)?;
        let fewer = latest.as_ref().is_some_and(|known| instances.list.len() < known.list.len());
        if fewer && !knows_leader(reply) {
            let error = "its server knows no leader, and has fewer instances than before";
            return Err(ConsulError::Doubtful(error.into()));
        }
        let unchanged = latest.as_ref().is_some_and(|known| **known == instances);
        if let (false, Some(why)) = (unchanged, &instances.why) {
            let (service, skipped) = (&asked.name, instances.skipped);
            tracing::warn!(?service, skipped, why, "instances in Consul that cannot be used");
        }
        let instances = match latest.take() {
            Some(known) if unchanged => known,
            _ => Arc::new(instances),
        };
        latest = Some(Arc::clone(&instances));
        tell.send_replace(Some(Ok(instances)));
        Ok(())
    };
    let path = |index| asked.path(&consul.settings, index);
    let fail = |error: &ConsulError| {
        tell.send_replace(Some(Err(error.to_string())));
    };
    let blocks = matches!(asked.name, ConsulName::Service(_));
    blocking(consul, blocks, path, hear, fail).await;
}

fn knows_leader(reply: &Reply) -> bool {
    reply.headers.get("x-consul-knownleader").is_none_or(|known| known != "false")
}

/// The loop of every watch: asks for `path`, which is given the index to wait from, and hands each
/// answer to `hear`, which may find that it is none. It never ends.
pub(super) async fn blocking(
    consul: &Consul,
    blocks: bool,
    path: impl Fn(Option<u64>) -> String,
    mut hear: impl FnMut(&Reply) -> Result<(), ConsulError>,
    fail: impl Fn(&ConsulError),
) {
    let (mut index, mut kept) = (0, None);
    let mut pace = Pace::new(Instant::now());
    let mut denied: Option<Instant> = None;
    let mut rng = fastrand::Rng::new();
    loop {
        let wait = blocks.then_some(consul.settings.wait);
        // Index 0 waits for nothing.
        let path = path(blocks.then_some(index).filter(|index| *index > 0));
        let token = consul.token.read();
        let question = Question::get(&path, token.clone(), wait.filter(|_| index > 0));
        let answer = tokio::select! {
            answer = consul.client.ask(&mut kept, question) => answer,
            // What the old token may not see is asked again with the new one.
            () = consul.token.replaced(token.as_deref()) => {
                (index, kept) = (0, None);
                continue;
            }
        };
        let answer = answer.and_then(|reply| hear(&reply).map(|()| reply));
        let pause = match answer {
            Ok(reply) if blocks => {
                let header = reply.headers.get("x-consul-index");
                index = next_index(index, header.and_then(|value| value.to_str().ok()));
                pace.answered(Instant::now())
            }
            Ok(_) => {
                pace.answered(Instant::now());
                QUERY_EVERY.mul_f64(1.0 - 0.1 * rng.f64())
            }
            Err(error) => {
                say_denied(&error, &mut denied);
                fail(&error);
                (index, kept) = (0, None);
                pace.failed(&error, Instant::now())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// That access is denied does not pass by itself.
fn say_denied(error: &ConsulError, said: &mut Option<Instant>) {
    let denied = matches!(error, ConsulError::Refused { status, .. } if status.as_u16() == 403);
    if denied && said.is_none_or(|at| at.elapsed() >= DENIED_AGAIN) {
        *said = Some(Instant::now());
        tracing::error!("{error}: does consul.token_file have the right token?");
    }
}
