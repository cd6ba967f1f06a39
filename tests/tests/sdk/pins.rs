//! Keys that an app has pinned, under load.

use std::net::SocketAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use outrigger_sdk::{Reason, proxy_header};
use outrigger_tests::backend::config;
use outrigger_tests::client::Client;
use outrigger_tests::load::{Load, burst};
use outrigger_tests::{eventually, secs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::world::{TTL, World, backends, home};

const KEYS: usize = 10_000;
const CONNECTIONS: usize = 8;

/// The request that is sent next goes where the key was pinned, each of many times.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pin_holds_for_the_next_request() {
    let all = backends::<3>().await;
    let world = World::start(&all.each_ref().map(|b| b.address), "").await;
    let address = world.sidecar.web();
    let mut connection = Client::connect(address).await.unwrap();
    let load = Load::start(address, 4, 400);
    for turn in 0..100 {
        let backend = all[turn % 3].name();
        world.client.set_affinity("api", "k", Some(&backend), TTL).await.unwrap();
        assert_eq!(home(&mut connection, address, "k").await, backend);
    }
    load.stop().await.assert_no_failures();
}

/// Every request with one of 10,000 keys lands on its backend, beside other traffic; once the app that
/// has pinned them is killed, none is pinned and all backends have their shares.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_keys_stay_at_their_backends_until_the_app_is_killed() {
    let all = backends::<4>().await;
    let world = World::start(&all.each_ref().map(|b| b.address), "").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
    command.arg(KEYS.to_string());
    let mut app = world.app(command);
    app.line(secs(60), |line| (line == "steering").then_some(())).await;
    let cluster = world.client.cluster("api").await.unwrap();
    let names: Vec<_> = cluster.backends.into_iter().map(|backend| backend.name).collect();
    assert_eq!(cluster.pins as usize, KEYS);

    let address = world.sidecar.web();
    let load = Load::start(address, 4, 400);
    let some = |first: usize| {
        let names = names.clone();
        tokio::spawn(async move {
            let mut connection = Client::connect(address).await.unwrap();
            for key in (first..KEYS).step_by(CONNECTIONS) {
                let home = home(&mut connection, address, &format!("key-{key}")).await;
                assert_eq!(home, names[key % names.len()], "key-{key}");
            }
        })
    };
    let visits: Vec<_> = (0..CONNECTIONS).map(some).collect();
    for visit in visits {
        visit.await.unwrap();
    }
    load.stop().await.assert_no_failures();

    app.kill().await;
    eventually("no key is pinned", secs(1), async || {
        (world.client.cluster("api").await.unwrap().pins == 0).then_some(())
    })
    .await;
    let affinity = world.client.affinity("api", "key-7").await.unwrap();
    assert_eq!((affinity.reason, affinity.pin), (Reason::Policy, None));
    let tally = burst(address, 4, 200).await;
    for backend in &all {
        assert!((tally.share(backend.address) - 25.0).abs() < 2.0, "{:?}", tally.by_backend);
    }
}

/// So many that the sidecar has to have them come slower are all there again after its restart, and the
/// app's own orders come between.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn thousands_of_pins_outlive_the_sidecar() {
    let [a, b] = backends().await;
    let mut world = World::start(&[a.address, b.address], "").await;
    let lease = world.client.lease("app").await.unwrap();
    let pin =
        async |key: usize| lease.set_affinity("api", &format!("key-{key}"), Some(&b.name())).await;
    stream::iter(0..KEYS).map(pin).buffer_unordered(32).try_collect::<Vec<_>>().await.unwrap();
    world.restart().await;
    let one_more = eventually("there is a turn for another", secs(5), async || {
        lease.set_affinity("api", "another", Some(&a.name())).await.ok()
    });
    assert_eq!(one_more.await, a.name());
    eventually("all are pinned again", secs(20), async || {
        let cluster = world.client.cluster("api").await.unwrap();
        (cluster.pins as usize == KEYS + 1).then_some(())
    })
    .await;
}

/// Connections say their key in the header that the SDK makes.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_goes_where_its_key_is_pinned() {
    let all = backends::<3>().await;
    let announced = "[listeners.web]\nprotocol = \"tcp\"\nproxy_protocol = true\n\
                     trusted_cidrs = [\"127.0.0.0/8\"]\n";
    let config = config(&all.each_ref().map(|backend| backend.address), "");
    let world = World::with_control(&config.replace("[listeners.web]\n", announced), "").await;
    for backend in &all {
        world.client.set_affinity("api", "session 7", Some(&backend.name()), TTL).await.unwrap();
        for _ in 0..4 {
            let said = answered(world.sidecar.web(), "session 7").await;
            assert!(said.contains(&backend.name()), "{said}");
        }
    }
}

async fn answered(address: SocketAddr, key: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let header = proxy_header(key, stream.local_addr().unwrap(), address).unwrap();
    stream.write_all(&header).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(secs(5), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
