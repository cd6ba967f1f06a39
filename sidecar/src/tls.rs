//! All TLS of a configuration: loaded as a whole before anything is bound, and looked after.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::net::tls::TlsError;
use crate::net::tls::client::Client;
use crate::net::tls::server::Server;

/// How often files of servers are looked at; a change counts with the second look.
const LOOK: Duration = Duration::from_secs(1);

/// What listeners and clusters speak TLS with, by name; those without TLS are not here.
#[derive(Debug, Default)]
pub struct Tls {
    pub listeners: BTreeMap<Arc<str>, Arc<Server>>,
    pub clusters: BTreeMap<Arc<str>, Arc<Client>>,
    /// What the control API speaks TLS with.
    pub control: Option<Arc<Server>>,
}

/// What cannot be loaded, each with the key that asks for it, `listeners.web.tls`.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(key, e)| format!("{key}: {e}")).collect::<Vec<_>>().join("\n"))]
pub struct Unloadable(pub Vec<(String, TlsError)>);

/// Reads all files that this configuration names, or finds all that is wrong with them.
pub fn load(config: &Config) -> Result<Tls, Unloadable> {
    let mut tls = Tls::default();
    let mut wrong = Vec::new();
    for listener in &config.listeners {
        let Some(settings) = &listener.tls else { continue };
        match Server::load(settings.clone()) {
            Ok(server) => drop(tls.listeners.insert(Arc::clone(&listener.name), Arc::new(server))),
            Err(error) => wrong.push((format!("listeners.{}.tls", listener.name), error)),
        }
    }
    if let Some(settings) = config.control.as_ref().and_then(|control| control.tls.as_ref()) {
        match Server::load(settings.clone()) {
            Ok(server) => tls.control = Some(Arc::new(server)),
            Err(error) => wrong.push(("control".into(), error)),
        }
    }
    for cluster in &config.clusters {
        let Some(settings) = &cluster.tls else { continue };
        match settings.client.load() {
            Ok(client) => {
                let client = Client::new(client, settings.server_name.clone());
                tls.clusters.insert(Arc::clone(&cluster.name), Arc::new(client));
            }
            Err(error) => wrong.push((format!("clusters.{}.tls", cluster.name), error)),
        }
    }
    if wrong.is_empty() { Ok(tls) } else { Err(Unloadable(wrong)) }
}

impl Tls {
    /// Whoever speaks TLS with those who connect, with the key that asks for it.
    pub fn servers(&self) -> Vec<(String, Arc<Server>)> {
        let listeners = self.listeners.iter();
        let listeners =
            listeners.map(|(name, server)| (format!("listeners.{name}.tls"), Arc::clone(server)));
        let control = self.control.iter().map(|server| ("control".into(), Arc::clone(server)));
        listeners.chain(control).collect()
    }
}

/// Has servers take over what is new in their files, for as long as the sidecar runs. A failure
/// is logged once, until it is mended or another one.
pub async fn follow(servers: Vec<(String, Arc<Server>)>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures: BTreeMap<&str, String> = BTreeMap::new();
    loop {
        looks.tick().await;
        for (of, server) in &servers {
            match reload(server).await {
                Ok(false) => {}
                Ok(true) => {
                    failures.remove(&**of);
                    tracing::info!(key = %of, "new certificates are in use");
                }
                Err(error) if failures.get(&**of) == Some(&error) => {}
                Err(error) => {
                    tracing::error!(key = %of, %error, "the old certificates stay in use");
                    failures.insert(of, error);
                }
            }
        }
    }
}

/// A disk may take its time.
async fn reload(server: &Arc<Server>) -> Result<bool, String> {
    let server = Arc::clone(server);
    let looked = tokio::task::spawn_blocking(move || server.reload()).await;
    looked.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}
