//! An app that steers its sidecar until it is killed: `app KEYS` pins so many keys to the backends of the
//! cluster `api` in turn, and gives the first of them weight 5, all under a lease.

use futures_util::{StreamExt, TryStreamExt, stream};
use outrigger_sdk::{Client, Error};

/// Pins under way at a time.
const AT_A_TIME: usize = 32;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let keys: usize = std::env::args().nth(1).expect("usage: app KEYS").parse().expect("a number");
    let client = Client::connect()?;
    let backends = client.cluster("api").await?.backends;
    let lease = client.lease("app").await?;
    let pin = async |key: usize| {
        let backend = &backends[key % backends.len()].name;
        lease.set_affinity("api", &format!("key-{key}"), Some(backend)).await
    };
    stream::iter(0..keys).map(pin).buffer_unordered(AT_A_TIME).try_collect::<Vec<_>>().await?;
    lease.set_weight("api", &backends[0].name, 5).await?;
    println!("steering");
    std::future::pending().await
}
