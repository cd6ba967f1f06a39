//! The story: shares by weight, a death that nobody notices, a newcomer.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, interval, timeout};

use super::authority::Authority;
use super::backend::{Backend, X_BACKEND};
use super::{JOINING, WEIGHTS};
use crate::cli::{Failure, print};
use crate::net::{Address, dial};

/// How long any step waits for what it waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests per second of the demo's own traffic.
const RATE: u64 = 300;

pub(super) struct Story {
    listener: Address,
    admin: Address,
}

/// Who answered how often; `None` is an answer that no backend gave.
type Tally = BTreeMap<Option<String>, u32>;

impl Story {
    pub(super) fn new(listener: &str, admin: &Address) -> Result<Self, Failure> {
        let listener = listener.parse().map_err(|_| Failure::Failed("no listener".into()))?;
        Ok(Self { listener, admin: admin.clone() })
    }

    /// Fails when anything does not go as told.
    pub(super) async fn tell(
        &mut self,
        authority: &Authority,
        backends: &mut [Backend],
    ) -> Result<(), Failure> {
        self.until_ready().await?;
        print(
            "1. Three backends, weights 60, 30 and 10 in their SRV records. 1,000 requests:\n\n",
        )?;
        let tally = self.traffic(Duration::ZERO, 1000).await?;
        report(&tally)?;

        let dying = &backends[1];
        print(&format!("\n2. `{}` is killed under {RATE} requests per second:\n\n", dying.name))?;
        let traffic = self.traffic(Duration::from_secs(3), u64::MAX);
        let death = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            dying.kill();
        };
        let (tally, ()) = tokio::join!(traffic, death);
        let tally = tally?;
        report(&tally)?;
        nobody_noticed(&tally)?;

        let joining = &backends[3];
        let weights: u16 = WEIGHTS.iter().sum();
        print(&format!(
            "\n3. An SRV record for `{}` is added, with weight {JOINING} beside {weights}:\n\n",
            joining.name
        ))?;
        authority.add(&joining.name, joining.address, JOINING).await?;
        let added = Instant::now();
        let mut tally = Tally::new();
        while !tally.contains_key(&Some(joining.name.clone())) {
            if added.elapsed() > PATIENCE {
                return Err(Failure::Failed(format!("`{}` was never used", joining.name)));
            }
            merge(&mut tally, self.traffic(Duration::ZERO, 20).await?);
        }
        let after = added.elapsed().as_secs_f64();
        print(&format!("   first used after {after:.1} s; the next 1,000 requests:\n\n"))?;
        merge(&mut tally, Tally::new());
        let tally = self.traffic(Duration::ZERO, 1000).await?;
        report(&tally)?;
        nobody_noticed(&tally)
    }

    /// A little traffic, so that what is looked at moves.
    pub(super) async fn keep_talking(&self) {
        loop {
            let _ = self.traffic(Duration::from_secs(1), u64::MAX).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn until_ready(&self) -> Result<(), Failure> {
        let ready = async {
            loop {
                let mut connection = connect(&self.admin).await?;
                let request = request("/readyz")?;
                let response = connection.send_request(request).await?;
                if response.status().is_success() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ready)
            .await
            .unwrap_or_else(|_| Err(Failure::Failed("the sidecar did not become ready".into())))
    }

    /// Sends requests for `time`, at [`RATE`], or else as fast as they are answered, but no more
    /// than `most`.
    async fn traffic(&self, time: Duration, most: u64) -> Result<Tally, Failure> {
        let mut tally = Tally::new();
        let mut connection = connect(&self.listener).await?;
        let mut pace = interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap_or(1));
        let end = Instant::now() + time;
        let mut sent = 0;
        while sent < most && (time.is_zero() || Instant::now() < end) {
            if !time.is_zero() {
                pace.tick().await;
            }
            sent += 1;
            let who = match ask(&mut connection).await {
                Ok(who) => who,
                Err(_) => {
                    connection = connect(&self.listener).await?;
                    None
                }
            };
            *tally.entry(who).or_default() += 1;
        }
        Ok(tally)
    }
}

type Connection = SendRequest<Empty<Bytes>>;

async fn connect(address: &Address) -> Result<Connection, Failure> {
    let stream = dial::connect(address, Some(PATIENCE), dial::Patience::Short).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request(path: &str) -> Result<Request<Empty<Bytes>>, Failure> {
    let request = Request::get(path).header(HOST, "localhost").body(Empty::new());
    request.map_err(|e| Failure::Failed(e.to_string()))
}

/// Which backend answers.
async fn ask(connection: &mut Connection) -> Result<Option<String>, Failure> {
    connection.ready().await?;
    let response = connection.send_request(request("/")?).await?;
    let who = response.headers().get(X_BACKEND);
    let who = who.and_then(|name| name.to_str().ok()).map(str::to_owned);
    let ok = response.status().is_success();
    response.into_body().collect().await?;
    Ok(who.filter(|_| ok))
}

fn merge(into: &mut Tally, other: Tally) {
    for (who, count) in other {
        *into.entry(who).or_default() += count;
    }
}

fn report(tally: &Tally) -> Result<(), Failure> {
    let total: u32 = tally.values().sum();
    for (who, count) in tally {
        let share = f64::from(*count) * 100.0 / f64::from(total.max(1));
        let who = who.as_deref().unwrap_or("failed");
        print(&format!("   {who:<6} {count:>5}  {share:>4.1} %\n"))?;
    }
    if !tally.contains_key(&None) {
        print("   failed     0\n")?;
    }
    Ok(())
}

fn nobody_noticed(tally: &Tally) -> Result<(), Failure> {
    match tally.get(&None) {
        None => Ok(()),
        Some(failed) => Err(Failure::Failed(format!("{failed} requests failed"))),
    }
}
