//! Every request of both tables in one piece: alone, and between good ones.

use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;

use crate::accepted::{accepted, methods, plain};
use crate::case::{Case, ID};
use crate::catalogue::refused;
use crate::world::World;

/// Conversations at a time.
const AT_ONCE: usize = 32;

async fn talk_all(world: &World, conversations: Vec<Vec<&Case>>) {
    stream::iter(conversations).for_each_concurrent(AT_ONCE, |cases| world.talk(cases)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_request_alone_gets_its_verdict() {
    let world = World::start("").await;
    let cases: Vec<_> = refused().into_iter().chain(accepted()).collect();
    talk_all(&world, cases.iter().map(|case| vec![case]).collect()).await;
    world.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn behind_a_refused_request_nothing_is_read_and_before_it_everything_is_answered() {
    let world = World::start("").await;
    let cases: Vec<_> = refused().into_iter().chain(accepted()).collect();
    let plain = plain();
    talk_all(&world, cases.iter().map(|case| vec![&plain, case, &plain]).collect()).await;
    world.judge().await;
}

/// What is behind a large body lies in a larger buffer, all of it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_verdict_does_not_depend_on_what_was_before() {
    let world = World::start("").await;
    let cases: Vec<_> = refused().into_iter().chain(accepted()).collect();
    let large: Vec<_> =
        accepted().into_iter().filter(|case| case.bytes.len() > 100 << 10).collect();
    assert_eq!(large.len(), 2);
    let plain = plain();
    let behind = |(i, case)| vec![&large[i % 2], case, &plain];
    talk_all(&world, cases.iter().enumerate().map(behind).collect()).await;
    world.judge().await;
}

/// An app that takes an early answer for the end of its request, and one that plays so, go on with
/// the next; to the backend that would be the body which it still waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn behind_an_early_answer_nothing_is_read() {
    let world = World::start("").await;
    let plain = plain();
    for (status, fields, begun) in [
        (413, "Expect: 100-continue\r\nContent-Length: 90", ""),
        (413, "Expect: 100-continue\r\nTransfer-Encoding: chunked", ""),
        (500, "Content-Length: 1000", "hello"),
        (403, "Transfer-Encoding: chunked", "5\r\nhe"),
    ] {
        let fields = format!("Host: a\r\nX-Id: {ID}\r\nX-Early: {status}\r\n{fields}");
        let begun = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{begun}");
        let mut raw = world.connect().await;
        raw.send(world.part(&begun)).await;
        assert_eq!(raw.answer().await.unwrap().status, status, "{fields}");
        let next = world.requests([&plain]);
        let _ = raw.stream.write_all(&next[0].bytes()).await;
        assert!(raw.is_closed().await, "{fields}: the next request is answered");
        world.talk([&plain]).await;
    }
    world.judge().await;
}

/// The one parser knows the registered methods only.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn methods_are_tokens_and_passed_on_as_they_are() {
    let world = World::start("").await;
    let (cases, plain) = (methods(), plain());
    talk_all(&world, cases.iter().map(|case| vec![&plain, case, &plain]).collect()).await;
    world.judge_by_h11().await;
}
