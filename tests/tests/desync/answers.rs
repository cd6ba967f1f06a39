//! Bad answers: a 502 or an end that everybody can see, nothing of what is behind the error, and
//! no second use of the connection that they came on.

use std::sync::Arc;

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use outrigger_tests::backend::config;
use outrigger_tests::eventually;
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::task::JoinSet;

use crate::liar::{Bad, Fate, Liar, answers};
use crate::world::SLOW_CONNECT;

/// A sidecar of so many workers before a liar.
async fn sidecar(liar: &Liar, workers: usize) -> Sidecar {
    let config = config(&[liar.address], SLOW_CONNECT);
    Sidecar::ready(&format!("[runtime]\nworkers = {workers}\n{config}")).await
}

/// Asks for a bad answer, holds what comes against its fate, and asks for a good one behind it.
async fn ask(raw: Option<Raw>, sidecar: &Sidecar, n: usize, bad: &Bad) -> Option<Raw> {
    let mut raw = match raw {
        Some(raw) => raw,
        None => Raw::connect(sidecar.web()).await,
    };
    let Bad { what, method, version, .. } = bad;
    raw.send(format!("{method} /bad/{n} HTTP/{version}\r\nHost: a\r\n\r\n")).await;
    match &bad.fate {
        Fate::Refused(reason) => {
            let mut answer = raw.answer().await;
            while answer.as_ref().is_some_and(|answer| answer.status < 200) {
                answer = raw.answer().await;
            }
            let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!(answer.status, 502, "{what}: {}", answer.head);
            assert_eq!(answer.header("x-outrigger-error"), [*reason], "{what}");
            Some(raw)
        }
        Fate::Served(status, body) => {
            let answer = match *method {
                "HEAD" => raw.head().await,
                _ => raw.answer().await,
            };
            let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
            assert_eq!((answer.status, answer.text().as_str()), (*status, *body), "{what}");
            Some(raw)
        }
        Fate::Broken => {
            let (bytes, end) = raw.rest_and_end().await;
            broken(&bytes, end.is_err()).unwrap_or_else(|why| {
                panic!("{what}: {why}: {}", bytes.escape_ascii());
            });
            None
        }
    }
}

/// Either an answer that says so, or one whose end is missing, with nothing in it but what was
/// good.
fn broken(bytes: &[u8], reset: bool) -> Result<(), &'static str> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return if reset { Ok(()) } else { Err("closed inside a head") };
    };
    if head.starts_with("HTTP/1.1 502 ") {
        return Ok(());
    }
    let data = match head.contains("Transfer-Encoding: chunked") {
        true if body.ends_with("0\r\n\r\n") => return Err("it looks whole"),
        true => body.split("\r\n").skip(1).step_by(2).collect(),
        false if !reset && !head.contains("Content-Length: ") => return Err("it looks whole"),
        false => body.to_owned(),
    };
    let good = "hello\r".starts_with(&data) || data.bytes().all(|byte| byte == b'x');
    if good { Ok(()) } else { Err("bytes of the error") }
}

async fn good(raw: Option<Raw>, sidecar: &Sidecar, id: &str) -> Raw {
    let mut raw = match raw {
        Some(raw) => raw,
        None => Raw::connect(sidecar.web()).await,
    };
    raw.send(format!("GET /good/{id} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let answer = raw.answer().await.expect("there is an answer");
    assert_eq!((answer.status, answer.text()), (200, format!("good {id}")));
    raw
}

/// All bad answers, some at a time, each with a good request behind it on the same connection
/// where that goes on.
async fn ask_for(liar: &Liar, sidecar: &Sidecar, some: impl Fn(&Bad) -> bool) {
    let all = answers();
    stream::iter(all.iter().enumerate().filter(|(_, bad)| some(bad)))
        .for_each_concurrent(16, |(n, bad)| async move {
            let raw = ask(None, sidecar, n, bad).await;
            good(raw, sidecar, &n.to_string()).await;
        })
        .await;
    assert_used_no_more(liar).await;
}

async fn assert_used_no_more(liar: &Liar) {
    eventually("connections with bad answers are closed", secs(5), || async {
        liar.connections().iter().all(|c| c.bad.is_none() || c.closed).then_some(())
    })
    .await;
    let all = answers();
    for connection in liar.connections() {
        let what = connection.bad.map(|n| all[n].what.as_str());
        assert!(!connection.used_again, "{what:?} was followed by another request");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_answer_is_a_502_or_visibly_cut_and_its_connection_is_used_no_more() {
    let liar = Liar::start().await;
    let sidecar = sidecar(&liar, 1).await;
    ask_for(&liar, &sidecar, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn byte_by_byte_bad_answers_fare_no_better() {
    let liar = Liar::start().await;
    let sidecar = sidecar(&liar, 1).await;
    liar.drip(sidecar.web());
    // What is behind a good answer would come when it has been served and its connection is idle.
    let bad = |bad: &Bad| bad.bytes.len() <= 400 && !matches!(bad.fate, Fate::Served(..));
    ask_for(&liar, &sidecar, bad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_good_and_bad_answers_and_nobody_gets_anothers() {
    let liar = Arc::new(Liar::start().await);
    let sidecar = Arc::new(sidecar(&liar, 2).await);
    let mut apps = JoinSet::new();
    for app in 0..16 {
        let sidecar = Arc::clone(&sidecar);
        apps.spawn(async move {
            let (mut rng, all) = (Rng::with_seed(app), answers());
            let mut raw = None;
            for i in 0..125 {
                raw = match rng.bool() {
                    true => Some(good(raw, &sidecar, &format!("{app}-{i}")).await),
                    false => {
                        let n = rng.usize(..all.len());
                        ask(raw, &sidecar, n, &all[n]).await
                    }
                };
            }
        });
    }
    while let Some(app) = apps.join_next().await {
        app.unwrap();
    }
    assert_used_no_more(&liar).await;
}

/// Whoever is asked next would get it for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_backend_says_unasked_on_an_idle_connection_is_nobodys_answer() {
    let liar = Liar::start().await;
    let sidecar = sidecar(&liar, 1).await;
    let mut raw = None;
    for i in 0..50 {
        raw = Some(good(raw, &sidecar, &i.to_string()).await);
        liar.say_unasked().await;
        // When the one worker has answered this it knows what came before.
        assert_eq!(exchange(sidecar.web(), "no request\r\n\r\n").await.status, 400);
    }
    assert_eq!(liar.connections().len(), 50);
}
