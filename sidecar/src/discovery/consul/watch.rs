//! One watch per question: what Consul says now, for everyone who asks it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Consul;
use super::asking::{Asking, encoded, parameters, waiting};
use super::client::{ConsulError, Reply};
use super::instances::{Instances, parse};
use crate::config::{ConsulName, ConsulService};

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
    pub(super) fn path(&self, consul: &Consul, index: Option<u64>) -> String {
        let (datacenter, namespace) = (self.datacenter.as_deref(), self.namespace.as_deref());
        let mut query = parameters(datacenter, namespace, consul.settings.stale);
        if let Some(filter) = &self.filter {
            query += &format!("&filter={}", encoded(filter));
        }
        query += &waiting(&consul.settings, index);
        match &self.name {
            ConsulName::Service(name) => format!("/v1/health/service/{}?{query}", encoded(name)),
            ConsulName::Query(name) => format!("/v1/query/{}/execute?{query}", encoded(name)),
        }
    }
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

/// Asks for as long as the sidecar runs.
async fn follow(consul: &Consul, asked: &Asked, tell: &Tell) {
    let mut asking = Asking::new(consul, matches!(asked.name, ConsulName::Service(_)));
    let mut latest: Option<Arc<Instances>> = None;
    loop {
        let answer = asking.ask(|index| asked.path(consul, index)).await;
        let heard = answer.and_then(|reply| {
            let instances = hear(asked, &reply, latest.as_ref())?;
            Ok((reply, instances))
        });
        match heard {
            Ok((reply, instances)) => {
                latest = Some(Arc::clone(&instances));
                tell.send_replace(Some(Ok(instances)));
                asking.answered(&reply).await;
            }
            Err(error) => {
                tell.send_replace(Some(Err(error.to_string())));
                asking.failed(&error).await;
            }
        }
    }
}

/// What an answer says; the very instances of before, if it says the same.
fn hear(
    asked: &Asked,
    reply: &Reply,
    latest: Option<&Arc<Instances>>,
) -> Result<Arc<Instances>, ConsulError> {
    let instances = parse(&asked.name, &reply.body)?;
    let fewer = latest.is_some_and(|known| instances.list.len() < known.list.len());
    if fewer && !knows_leader(reply) {
        let error = "its server knows no leader, and has fewer instances than before";
        return Err(ConsulError::Doubtful(error.into()));
    }
    if let Some(known) = latest.filter(|known| ***known == instances) {
        return Ok(Arc::clone(known));
    }
    if let Some(why) = &instances.why {
        let (service, skipped) = (&asked.name, instances.skipped);
        tracing::warn!(?service, skipped, why, "instances in Consul that cannot be used");
    }
    Ok(Arc::new(instances))
}

fn knows_leader(reply: &Reply) -> bool {
    reply.headers.get("x-consul-knownleader").is_none_or(|known| known != "false")
}
