//! Orders for the whole fleet, in Consul's key-value store: `PREFIX CLUSTER/BACKEND` holds
//! `{"weight": 5}`, `{"drain": true, "timeout": "60s"}` or both, and is an order as long as it is
//! there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Consul;
use super::asking::{Asking, parameters, waiting};
use super::client::{ConsulError, Question, Reply};

use crate::cluster::{
    Cluster, Event, FleetChange, FleetDrain, FleetOrder, FleetOrders, FleetWrite,
};
use crate::config::DurationText;

/// An order takes a few dozen bytes.
const MAX_VALUE: usize = 4 << 10;
/// Orders of one cluster; more are not looked at.
const MAX_ORDERS: usize = 5_000;
/// How often a write is tried when others write at the same time.
const TRIES: usize = 5;
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');

/// A key, as Consul lists it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    value: Option<String>,
    modify_index: u64,
}

/// What a key holds.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Value {
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<DurationText>,
}

/// What clusters were told, and what was found wrong.
#[derive(Default)]
struct Told {
    orders: HashMap<Arc<str>, FleetOrders>,
    /// Keys that hold no order, with the index at which that was said.
    wrong: HashMap<String, u64>,
}

/// Obeys the orders for these clusters for as long as the sidecar runs.
pub(super) async fn follow(consul: &Consul, prefix: &str, clusters: &[Arc<Cluster>]) {
    let keys = path(consul, prefix, consul.settings.stale) + "&recurse";
    let mut asking = Asking::new(consul, true);
    let mut told = Told::default();
    loop {
        let answer = asking.ask(|index| keys.clone() + &waiting(&consul.settings, index)).await;
        let heard = answer.and_then(|reply| {
            let news = told.hear(&reply, prefix, clusters)?;
            Ok((reply, news))
        });
        match heard {
            Ok((reply, news)) => {
                for (cluster, orders) in news {
                    // Its task lives as long as the sidecar.
                    let _ = cluster.events().send(Event::Fleet(orders)).await;
                }
                asking.answered(&reply).await;
            }
            Err(error) => {
                tracing::debug!(%error, "orders for the fleet stay as they are");
                asking.failed(&error).await;
            }
        }
    }
}

/// The path of a key, or of what keys begin with; with `stale` any server may answer.
fn path(consul: &Consul, key: &str, stale: bool) -> String {
    let settings = &consul.settings;
    let (datacenter, namespace) = (settings.datacenter.as_deref(), settings.namespace.as_deref());
    let query = parameters(datacenter, namespace, stale);
    format!("/v1/kv/{}?{query}", utf8_percent_encode(key, KEY))
}

/// The keys that were found; without any, there is nothing to be found.
fn entries(reply: &Reply) -> Result<Vec<Entry>, ConsulError> {
    let broken = |e: serde_json::Error| ConsulError::Broken(format!("its answer: {e}"));
    match reply.found {
        true => serde_json::from_slice(&reply.body).map_err(broken),
        false => Ok(Vec::new()),
    }
}

impl Told {
    /// The clusters whose orders have changed, with their orders.
    fn hear(
        &mut self,
        reply: &Reply,
        prefix: &str,
        clusters: &[Arc<Cluster>],
    ) -> Result<Vec<(Arc<Cluster>, FleetOrders)>, ConsulError> {
        let entries = entries(reply)?;
        self.wrong.retain(|key, index| {
            entries.iter().any(|entry| entry.key == *key && entry.modify_index == *index)
        });
        let mut found: BTreeMap<&str, FleetOrders> = BTreeMap::new();
        for entry in &entries {
            let Some((name, backend)) = entry.names(prefix) else { continue };
            // Others of the fleet may have clusters that are not known here.
            let Some(cluster) = clusters.iter().find(|cluster| cluster.name() == name) else {
                continue;
            };
            let orders = found.entry(name).or_default();
            match entry.order() {
                Ok(order) if orders.len() < MAX_ORDERS => {
                    orders.insert(backend.to_owned(), order);
                }
                Ok(_) => self.complain(entry, cluster, "there are too many orders"),
                Err(why) => self.complain(entry, cluster, &why),
            }
        }
        let mut news = Vec::new();
        for cluster in clusters {
            let orders = found.remove(cluster.name()).unwrap_or_default();
            let before = self.orders.entry(cluster.settings.name.clone()).or_default();
            if *before != orders {
                before.clone_from(&orders);
                news.push((Arc::clone(cluster), orders));
            }
        }
        Ok(news)
    }

    fn complain(&mut self, entry: &Entry, cluster: &Cluster, why: &str) {
        if self.wrong.insert(entry.key.clone(), entry.modify_index) != Some(entry.modify_index) {
            cluster.metrics.fleet_orders_ignored.increment(1);
            tracing::warn!(
                key = entry.key.escape_debug().to_string(),
                why,
                "no order for the fleet"
            );
        }
    }
}

impl Entry {
    /// The cluster and the backend of a key; a backend may have slashes. `None` for a folder.
    fn names(&self, prefix: &str) -> Option<(&str, &str)> {
        let names = self.key.strip_prefix(prefix)?.split_once('/')?;
        (!names.1.is_empty() && !names.1.ends_with('/')).then_some(names)
    }

    fn order(&self) -> Result<FleetOrder, String> {
        self.value()?.order()
    }

    fn value(&self) -> Result<Value, String> {
        let text = self.value.as_deref().unwrap_or_default();
        if text.len() > MAX_VALUE {
            return Err("it is too long".into());
        }
        let text = STANDARD.decode(text).map_err(|e| e.to_string())?;
        serde_json::from_slice(&text).map_err(|e| e.to_string())
    }
}

impl Value {
    fn order(self) -> Result<FleetOrder, String> {
        let timeout = self
            .timeout
            .map(|text| text.parse().ok_or(format!("timeout {:?} is no duration", text.0)));
        let timeout = timeout.transpose()?;
        let drains = self.drain.unwrap_or(false);
        match (self.weight, drains, timeout) {
            (_, false, Some(_)) => Err("it has a timeout and no drain".into()),
            (None, false, None) => Err("it says nothing".into()),
            (weight, drains, timeout) => {
                Ok(FleetOrder { weight, drain: drains.then_some(FleetDrain { timeout }) })
            }
        }
    }

    fn change(&mut self, change: FleetChange) {
        match change {
            FleetChange::Drain(FleetDrain { timeout }) => {
                self.drain = Some(true);
                self.timeout = timeout
                    .map(|timeout| DurationText(humantime::format_duration(timeout).to_string()));
            }
            FleetChange::Resume => (self.drain, self.timeout) = (None, None),
            FleetChange::Weight(weight) => self.weight = Some(weight),
            FleetChange::ResetWeight => self.weight = None,
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Writes orders for as long as somebody may give some.
pub(super) async fn write(consul: &Consul, prefix: &str, wishes: &mut mpsc::Receiver<FleetWrite>) {
    while let Some(wish) = wishes.recv().await {
        let done = write_one(consul, prefix, &wish).await;
        // Whoever asked may have gone.
        let _ = wish.reply.send(done);
    }
}

/// Changes what a key holds, and nothing that somebody else has written meanwhile.
async fn write_one(consul: &Consul, prefix: &str, wish: &FleetWrite) -> Result<(), String> {
    let key = format!("{prefix}{}/{}", wish.cluster, wish.backend);
    // Only what the leader knows may be changed.
    let path = path(consul, &key, false);
    let mut kept = None;
    for _ in 0..TRIES {
        let question = Question::get(&path, consul.token.read(), None);
        let reply = consul.client.ask(&mut kept, question).await.map_err(|e| e.to_string())?;
        let entries = entries(&reply).map_err(|e| e.to_string())?;
        let before = entries.first();
        let held = before.map(Entry::value).transpose();
        let mut value = held
            .map_err(|why| format!("the key {key:?} is there and holds no order: {why}"))?
            .unwrap_or_default();
        value.change(wish.change);
        let method = match (before, value.is_empty()) {
            (None, true) => return Ok(()),
            (Some(_), true) => Method::DELETE,
            (_, false) => Method::PUT,
        };
        let body = serde_json::to_vec(&value).map_err(|e| e.to_string())?;
        let index = before.map_or(0, |entry| entry.modify_index);
        let path = format!("{path}&cas={index}");
        let token = consul.token.read();
        let question = Question { method, path: &path, token, body: body.into(), wait: None };
        let reply = consul.client.ask(&mut kept, question).await.map_err(|e| e.to_string())?;
        if reply.body.trim_ascii() == b"true" {
            return Ok(());
        }
    }
    Err(format!("others kept changing the key {key:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, text: &str) -> Entry {
        Entry { key: key.into(), value: Some(STANDARD.encode(text)), modify_index: 1 }
    }

    #[test]
    fn keys_name_a_cluster_and_a_backend() {
        let names =
            |key| entry(key, "").names("outrigger/").map(|(c, b)| (c.to_owned(), b.to_owned()));
        let both = |cluster: &str, backend: &str| Some((cluster.to_owned(), backend.to_owned()));
        assert_eq!(names("outrigger/api/10.0.0.1:80"), both("api", "10.0.0.1:80"));
        assert_eq!(names("outrigger/api/unix:/run/a"), both("api", "unix:/run/a"));
        for key in
            ["outrigger/", "outrigger/api", "outrigger/api/", "other/api/b", "outrigger/a/b/"]
        {
            assert_eq!(names(key), None, "{key}");
        }
    }

    #[test]
    fn values_are_orders_or_nothing() {
        let order = |text| entry("k", text).order();
        let seconds = |n| Some(std::time::Duration::from_secs(n));
        let drain = |timeout| Some(FleetDrain { timeout });
        assert_eq!(order("{\"weight\": 5}"), Ok(FleetOrder { weight: Some(5), drain: None }));
        assert_eq!(
            order("{\"drain\": true, \"timeout\": \"60s\", \"weight\": 0}"),
            Ok(FleetOrder { weight: Some(0), drain: drain(seconds(60)) })
        );
        assert_eq!(order("{\"drain\": true}").unwrap().drain, drain(None));
        let wrong = [
            "",
            "{}",
            "5",
            "{\"drain\": false}",
            "{\"weight\": 65536}",
            "{\"weight\": \"5\"}",
            "{\"timeout\": \"60s\"}",
            "{\"drain\": true, \"timeout\": \"60\"}",
            "{\"wait\": 1}",
            "\u{0}",
        ];
        for text in wrong {
            assert!(order(text).is_err(), "{text}");
        }
        let not_base64 = Entry { value: Some("%".into()), ..entry("k", "") };
        assert!(not_base64.order().is_err());
        assert!(
            entry("k", &format!("{{\"weight\": 5{}}}", " ".repeat(MAX_VALUE))).order().is_err()
        );
    }

    #[test]
    fn changes_leave_the_rest_alone() {
        let mut value = Value::default();
        value.change(FleetChange::Weight(5));
        value.change(FleetChange::Drain(FleetDrain { timeout: None }));
        value.change(FleetChange::Drain(FleetDrain {
            timeout: Some(std::time::Duration::from_secs(90)),
        }));
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(text, "{\"weight\":5,\"drain\":true,\"timeout\":\"1m 30s\"}");
        assert!(entry("k", &text).order().is_ok());
        value.change(FleetChange::Resume);
        assert_eq!(serde_json::to_string(&value).unwrap(), "{\"weight\":5}");
        value.change(FleetChange::ResetWeight);
        assert!(value.is_empty());
    }
}
