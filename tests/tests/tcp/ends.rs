//! How one side ends, and what the other learns of it.

use outrigger_tests::backend::ByHand;
use outrigger_tests::raw::Raw;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use super::world::{Pattern, assert_reset, config, outcomes, until_ends, within};

/// More than all buffers on the way hold.
const MUCH: usize = 32 << 20;

struct World {
    sidecar: Sidecar,
    backend: ByHand,
}

impl World {
    async fn start() -> Self {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        Self { sidecar, backend }
    }

    /// Both ends of a connection on which both sides have spoken.
    async fn connection(&self) -> (Raw, Raw) {
        let mut app = Raw::connect(self.sidecar.web()).await;
        let mut served = self.backend.accept().await;
        app.send("question").await;
        assert_eq!(served.exactly(8).await, b"question");
        served.send("answer").await;
        assert_eq!(app.exactly(6).await, b"answer");
        (app, served)
    }

    async fn outcomes(&self, outcome: &str) -> f64 {
        outcomes(&self.sidecar, &self.backend.address.to_string(), outcome).await
    }
}

/// (nginx's `stream_proxy_half_close`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_finished_still_hears_all_that_the_other_says() {
    let world = World::start().await;
    for app_first in [true, false] {
        let (mut app, mut served) = world.connection().await;
        let (first, second) = match app_first {
            true => (&mut app, &mut served),
            false => (&mut served, &mut app),
        };
        first.send("the last word").await;
        first.finish().await;
        let (said, end) = second.rest_and_end().await;
        assert_eq!((&*said, end.is_ok()), (&b"the last word"[..], true));
        let (mut sent, mut heard) = (Pattern::new(1), Pattern::new(1));
        let saying = sent.send(&mut second.stream, MUCH);
        let hearing = heard.expect(&mut first.stream, MUCH);
        within(secs(30), "all is heard", async { tokio::join!(saying, hearing) }).await;
        second.finish().await;
        assert!(first.is_closed().await);
    }
    until_ends(&world.sidecar, "finished", 2).await;
    assert_eq!(world.outcomes("success").await, 2.0);
}

/// Whether what was said before has been taken or lies on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stays_a_reset() {
    for unread in [0, 1 << 10, MUCH] {
        for app_resets in [true, false] {
            let what = format!("{unread} unread, the app resets: {app_resets}");
            let world = World::start().await;
            let (app, served) = world.connection().await;
            let (mut resets, mut learns) = if app_resets { (app, served) } else { (served, app) };
            say_what_nobody_reads(&mut resets, unread).await;
            resets.reset();
            println!("{what}");
            assert_reset(&mut learns).await;
            let (end, outcome) =
                if app_resets { ("app_reset", "cancelled") } else { ("backend_reset", "reset") };
            until_ends(&world.sidecar, end, 1).await;
            assert_eq!(world.outcomes(outcome).await, 1.0, "{what}");
        }
    }
}

/// The first to notice is then not who reads, but who writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stays_a_reset_for_those_who_are_held_back() {
    for app_resets in [true, false] {
        let world = World::start().await;
        let (app, served) = world.connection().await;
        let (mut resets, mut learns) = if app_resets { (app, served) } else { (served, app) };
        resets.send("the last word").await;
        assert_eq!(learns.exactly(13).await, b"the last word");
        say_what_nobody_reads(&mut learns, 4 * MUCH).await;
        resets.reset();
        assert_reset(&mut learns).await;
        let end = if app_resets { "app_reset" } else { "backend_reset" };
        until_ends(&world.sidecar, end, 1).await;
    }
}

/// As much as there is room for on the way.
async fn say_what_nobody_reads(by: &mut Raw, most: usize) {
    let (mut pattern, mut said) = (Pattern::new(2), 0);
    while said < most {
        let piece = (most - said).min(64 << 10);
        let sending = pattern.send(&mut by.stream, piece);
        if tokio::time::timeout(secs(1), sending).await.is_err() {
            return;
        }
        said += piece;
    }
}

/// It has closed, and only its kernel is there to say that nobody listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_backend_did_not_want_to_hear_is_no_success() {
    let world = World::start().await;
    let mut app = Raw::connect(world.sidecar.web()).await;
    let mut served = world.backend.accept().await;
    app.send("question").await;
    assert_eq!(served.exactly(8).await, b"question");
    drop(served);
    assert!(app.is_closed().await);
    app.send("another question").await;
    app.finish().await;
    until_ends(&world.sidecar, "backend_reset", 1).await;
    assert_eq!(world.outcomes("reset").await, 1.0);
}

/// It has heard less than was said to it: that is no more a clean end than any other reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_closes_without_having_read_all_breaks_it_off() {
    for app_closes in [true, false] {
        let world = World::start().await;
        let (app, served) = world.connection().await;
        let (mut closes, mut learns) = if app_closes { (app, served) } else { (served, app) };
        learns.send("nobody will read this").await;
        closes.stream.readable().await.unwrap();
        closes.send("nothing comes after this").await;
        drop(closes);
        assert_reset(&mut learns).await;
    }
}
