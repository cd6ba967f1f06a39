//! `outrigger check`: judge a configuration, and on request the world it speaks of.

use clap::Args;
use futures_util::future::join_all;

use super::{Failure, FileArg, block_on, print};
use crate::cluster::{Endpoint, WEIGHT_ONE};
use crate::config::{Cluster, Config, Source};
use crate::control::tokens::Tokens;
use crate::discovery::Sources;
use crate::health::probe;
use crate::state;
use crate::tls::{self, Tls};

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: FileArg,
    /// Resolve every cluster and probe its backends once
    #[arg(long)]
    live: bool,
}

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let config = self.file.load()?.config;
        let file = self.file.config.display();
        let secret = config.has_cookies().then(|| state::check_keyring(&config)).transpose()?;
        let tls = tls::load(&config)?;
        let tokens = config.control.as_ref().and_then(|control| control.token_file.as_deref());
        tokens.map(Tokens::load).transpose()?;
        for warning in config.warnings() {
            eprintln!("{file}: warning: {warning}");
        }
        if self.live {
            return block_on(live(&config, &tls));
        }
        let (listeners, clusters) = (config.listeners.len(), config.clusters.len());
        print(&format!("{file}: ok, {listeners} listeners, {clusters} clusters\n"))?;
        secret.map_or(Ok(()), |from| print(&format!("{from}\n")))
    }
}

/// One line of the table.
struct Row {
    cluster: String,
    source: String,
    backend: String,
    tier: String,
    weight: String,
    result: Result<String, String>,
}

async fn live(config: &Config, tls: &Tls) -> Result<(), Failure> {
    let sources = Sources::new(config).map_err(|e| Failure::Failed(e.to_string()))?;
    let all = config
        .clusters
        .iter()
        .flat_map(|cluster| cluster.sources.iter().map(move |source| (cluster, source)));
    let checks = all.map(|(cluster, source)| check(cluster, source, &sources, tls));
    let rows: Vec<Row> = join_all(checks).await.into_iter().flatten().collect();
    let mut table =
        super::status::table(&["CLUSTER", "SOURCE", "BACKEND", "TIER", "WEIGHT", "RESULT"]);
    for row in &rows {
        let result = match &row.result {
            Ok(text) | Err(text) => text,
        };
        table.add_row([&row.cluster, &row.source, &row.backend, &row.tier, &row.weight, result]);
    }
    print(&format!("{table}\n"))?;
    match rows.iter().filter(|row| row.result.is_err()).count() {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!("{failed} of {} failed", rows.len()))),
    }
}

async fn check(cluster: &Cluster, source: &Source, sources: &Sources, tls: &Tls) -> Vec<Row> {
    let problem = |error: String| Row {
        cluster: cluster.name.to_string(),
        source: source.kind().into(),
        backend: "-".into(),
        tier: "-".into(),
        weight: "-".into(),
        result: Err(error),
    };
    match sources.ask(source).await {
        Err(error) => vec![problem(error)],
        Ok(endpoints) if endpoints.is_empty() => vec![problem("no endpoints".into())],
        Ok(endpoints) => {
            let probes =
                endpoints.into_iter().map(|e| probe_once(cluster, source, sources, e, tls));
            join_all(probes).await
        }
    }
}

async fn probe_once(
    cluster: &Cluster,
    source: &Source,
    sources: &Sources,
    endpoint: Endpoint,
    tls: &Tls,
) -> Row {
    let row = |result| Row {
        cluster: cluster.name.to_string(),
        source: source.kind().into(),
        backend: endpoint.address.to_string(),
        tier: endpoint.priority.to_string(),
        weight: (f64::from(endpoint.weight) / f64::from(WEIGHT_ONE)).to_string(),
        result,
    };
    if let Err(refused) = sources.admits(source, &endpoint) {
        return row(Err(refused));
    }
    let client = tls.clusters.get(&cluster.name).map(|client| &**client);
    let Some(health) = &cluster.health else { return row(Ok("not probed".into())) };
    let probing = probe::run(health, &endpoint, cluster, client);
    row(match tokio::time::timeout(health.timeout, probing).await {
        Ok(Ok(_)) => Ok("pass".into()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(health.timeout))),
    })
}
