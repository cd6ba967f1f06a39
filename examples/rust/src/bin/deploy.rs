//! A deploy: work moves from the old backend of a cluster to the new one in steps, but for a session that
//! stays where it is. Should it die on the way, everything is as before within a second.
//!
//!     deploy CLUSTER OLD NEW URL [SECONDS]
//!
//! `URL` leads to the sidecar's listener, `SECONDS` are between steps. Where the control API is, the
//! environment says: `OUTRIGGER_CONTROL`, `OUTRIGGER_CONTROL_TOKEN_FILE`.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client as Http, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use outrigger_sdk::{AFFINITY_HEADER, Client, affinity_header};

const SESSION: &str = "user-42";
const SECONDS: f64 = 10.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (places, pause) = match arguments.as_slice() {
        [places @ .., seconds] if places.len() == 4 => (places, seconds.parse()?),
        places => (places, SECONDS),
    };
    let [cluster, old, new, url] = places else {
        bail!("usage: deploy CLUSTER OLD NEW URL [SECONDS]");
    };
    let http = Http::builder(TokioExecutor::new()).build_http();
    let client = Client::connect()?;

    // All that is ordered through it ends with it, or with this process.
    let lease = client.lease("deploy").await.context("no deploy without the sidecar")?;
    let home = lease.set_affinity(cluster, SESSION, Some(old)).await?;
    println!("{SESSION} stays at {home}");

    for percent in [10, 50, 100] {
        lease.set_weight(cluster, new, percent).await?;
        lease.set_weight(cluster, old, 100 - percent).await?;
        let answer = visit(&http, url).await?;
        println!("{percent} % at {new}; {SESSION} is answered: {answer}");
        tokio::time::sleep(Duration::try_from_secs_f64(pause)?).await;
    }

    lease.drain(cluster, old, None).await?;
    let drained = client.wait_drained(cluster, old).await?;
    println!("{old} has finished, {} ended by force", drained.forced);
    // Here the old release would be stopped, and discovery would no longer know of it.
    lease.end().await?;
    Ok(())
}

/// A request of the session: its key leads it.
async fn visit(http: &Http<HttpConnector, Empty<Bytes>>, url: &str) -> anyhow::Result<String> {
    let request = Request::get(url).header(AFFINITY_HEADER, affinity_header(SESSION)?);
    let answer = http.request(request.body(Empty::new())?).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}
