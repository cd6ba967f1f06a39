//! Every request of both tables in pieces: whatever the reads are, the verdict is the same.
//!
//! One worker takes what happens on its sockets in the order in which it happened. So when a
//! request that was sent later has been answered, all that was sent before it has been read, and
//! the next piece will be a read of its own.

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use outrigger_tests::raw::Raw;
use tokio::io::AsyncWriteExt;

use crate::accepted::{accepted, plain};
use crate::case::{Case, Sent};
use crate::catalogue::refused;
use crate::world::World;

const ONE_WORKER: &str = "[runtime]\nworkers = 1";
/// Connections at a time.
const AT_ONCE: usize = 100;
/// Up to this length a request is cut at every byte; a longer one at its ends and at two dozen
/// places in between.
const SHORT: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cut_at_any_byte_changes_no_verdict() {
    let world = World::start(ONE_WORKER).await;
    let cases: Vec<_> = refused().into_iter().chain(accepted()).collect();
    let cuts: Vec<_> =
        cases.iter().flat_map(|case| cuts(case).map(move |cut| (case, cut))).collect();
    for cuts in cuts.chunks(AT_ONCE) {
        let mut halves = Vec::new();
        for (case, cut) in cuts {
            let sent = world.requests([*case]);
            let bytes = sent[0].bytes();
            let mut raw = world.connect().await;
            raw.send(&bytes[..*cut]).await;
            halves.push((raw, sent, bytes, cut));
        }
        world.talk([&plain()]).await;
        let rests = halves.into_iter().map(|(mut raw, sent, bytes, cut)| {
            let world = &world;
            async move {
                let _ = raw.stream.write_all(&bytes[*cut..]).await;
                world.verdicts(&mut raw, &sent).await;
            }
        });
        join_all(rests).await;
    }
    world.judge().await;
}

/// Where a request is cut in two.
fn cuts(case: &Case) -> impl Iterator<Item = usize> {
    let length = case.bytes.len();
    // Those that differ in their bodies have the same head.
    let blank = case.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let first = blank.filter(|_| case.is_refused_in_body()).unwrap_or(1);
    // The first and the last bytes are where heads and bodies begin and end.
    let step = if length > SHORT { (length / SHORT * 16) | 1 } else { 1 };
    let ends = move |cut: usize| cut < first + 8 || cut + 8 > length;
    (first..length).filter(move |cut| cut.is_multiple_of(step) || ends(*cut))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn byte_by_byte_the_verdicts_are_the_same() {
    let world = World::start(ONE_WORKER).await;
    let cases: Vec<_> = refused().into_iter().chain(accepted()).collect();
    let short: Vec<_> = cases.iter().filter(|case| case.bytes.len() <= SHORT).collect();
    for cases in short.chunks(AT_ONCE) {
        drip(&world, cases).await;
    }
    world.judge().await;
}

/// Sends the first byte of each request, then the second, and so on.
async fn drip(world: &World, cases: &[&Case]) {
    let mut all = Vec::new();
    for sent in world.requests(cases.iter().copied()) {
        all.push((world.connect().await, sent.bytes(), sent));
    }
    let mut between = world.connect().await;
    let plain = plain();
    for at in 0..SHORT {
        let mut left = false;
        for (raw, bytes, _) in &mut all {
            if let Some(byte) = bytes.get(at) {
                let _ = raw.stream.write_all(&[*byte]).await;
                left = true;
            }
        }
        if !left {
            break;
        }
        on_kept(world, &mut between, &plain).await;
    }
    join_all(all.iter_mut().map(|(raw, _, sent)| world.verdicts(raw, std::slice::from_ref(sent))))
        .await;
}

/// A request and its answer on a connection that is kept.
async fn on_kept(world: &World, raw: &mut Raw, case: &Case) {
    let sent = world.requests([case]);
    raw.send(sent.iter().flat_map(Sent::bytes).collect::<Vec<_>>()).await;
    world.verdicts(raw, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_breaks_off_at_any_byte_is_a_whole_one_to_nobody() {
    let world = World::start("").await;
    let cases = accepted();
    let cuts = cases.iter().flat_map(|case| cuts(case).map(move |cut| (case, cut)));
    stream::iter(cuts)
        .for_each_concurrent(AT_ONCE, |(case, cut)| {
            let world = &world;
            async move {
                let mut raw = world.connect().await;
                raw.send(world.part(&case.bytes[..cut])).await;
                raw.finish().await;
                let (answer, _) = raw.rest_and_end().await;
                let answer = String::from_utf8_lossy(&answer);
                assert!(!answer.contains("200 OK"), "{} of {}: {answer}", cut, case.what);
            }
        })
        .await;
    world.judge().await;
}
