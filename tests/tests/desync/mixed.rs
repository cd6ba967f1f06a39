//! Good and bad requests at random, one to one, over connections to the backend that all share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use outrigger_tests::{eventually, millis, secs};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::accepted::accepted;
use crate::case::{Case, Sent};
use crate::catalogue::refused;
use crate::world::World;

const REQUESTS: usize = 10_000;
const CLIENTS: usize = 32;
const SEED: u64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mixed_requests_and_nobody_gets_what_is_anothers() {
    let world = Arc::new(World::start("").await);
    let cases = Arc::new((accepted(), refused()));
    let sent = Arc::<[AtomicUsize; 2]>::default();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (world, cases, sent) = (Arc::clone(&world), Arc::clone(&cases), Arc::clone(&sent));
        let mut rng = Rng::with_seed(SEED + client as u64);
        clients.spawn(async move {
            let [good, bad] = &*sent;
            while good.load(Ordering::Relaxed) + bad.load(Ordering::Relaxed) < REQUESTS {
                let script = script(&cases, &mut rng);
                let passed = script.iter().filter(|case| case.passes()).count();
                good.fetch_add(passed, Ordering::Relaxed);
                bad.fetch_add(script.len() - passed, Ordering::Relaxed);
                converse(&world, &script, &mut rng).await;
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let [good, bad] = [&sent[0], &sent[1]].map(|count| count.load(Ordering::Relaxed));
    assert!(good > REQUESTS * 2 / 5 && bad > REQUESTS * 2 / 5, "{good} good, {bad} bad");
    let connections =
        world.sidecar.metric("outrigger_upstream_connections_total", &[]).await as usize;
    assert!(connections < world.answered(), "{connections} connections: none was shared");
    until_idle(&world).await;
    world.judge().await;
}

/// Requests for one connection: each good or bad by the toss of a coin, up to one that closes
/// it, and sometimes more that nobody may read.
fn script<'c>((good, bad): &'c (Vec<Case>, Vec<Case>), rng: &mut Rng) -> Vec<&'c Case> {
    let mut script = Vec::new();
    loop {
        let cases = if rng.bool() { good } else { bad };
        let case = rng.choice(cases).unwrap();
        script.push(case);
        if case.closes() {
            return script;
        }
    }
}

/// All at once, one after another, or in pieces of any size.
async fn converse(world: &World, script: &[&Case], rng: &mut Rng) {
    let sent = world.requests(script.iter().copied());
    let mut raw = world.connect().await;
    match rng.u8(0..3) {
        0 => {
            let mut bytes: Vec<u8> = sent.iter().flat_map(Sent::bytes).collect();
            for behind in world.requests(rng.choice([script.first(), None]).flatten().copied()) {
                bytes.extend(behind.bytes());
            }
            let _ = raw.stream.write_all(&bytes).await;
            world.verdicts(&mut raw, &sent).await;
        }
        1 => {
            for request in &sent {
                let _ = raw.stream.write_all(&request.bytes()).await;
                world.verdicts(&mut raw, std::slice::from_ref(request)).await;
            }
        }
        _ => {
            let bytes: Vec<u8> = sent.iter().flat_map(Sent::bytes).collect();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rng.usize(1..=rest.len()));
                let _ = raw.stream.write_all(piece).await;
                rest = more;
                tokio::time::sleep(millis(rng.u64(0..2))).await;
            }
            world.verdicts(&mut raw, &sent).await;
        }
    }
}

async fn until_idle(world: &World) {
    eventually("nothing is in flight", secs(5), || async {
        let cluster = world.sidecar.cluster("api").await;
        (cluster["backends"][0]["in_flight"] == 0).then_some(())
    })
    .await;
}
