//! Interim answers: all of them pass, in order, to whoever can understand them.

use outrigger_tests::backend::{Backend, ByHand, RawBackend, config, full};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs, tool};
use tokio::process::Command;
use tokio::time::Instant;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const EXPECTING: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\
                         Expect: 100-continue\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// What curl made of an upload that waits for leave.
#[derive(Debug)]
struct Curl {
    /// All status codes, in order.
    codes: Vec<u16>,
    body: String,
    ended: Option<i32>,
    took: std::time::Duration,
}

/// Has curl send a body of five bytes once it may, with these arguments more.
async fn curl(sidecar: &Sidecar, more: &[&str]) -> Curl {
    let mut command = Command::new(tool("curl", "curl"));
    command.args(["-sSi", "--max-time", "10", "--data", "hello", "-H", "Expect: 100-continue"]);
    command.args(more).arg(format!("http://{}/", sidecar.web()));
    let start = Instant::now();
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let codes = text.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 "));
    let codes = codes.map(|line| line[..3].parse().unwrap()).collect();
    let body = text.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned();
    Curl { codes, body, ended: output.status.code(), took: start.elapsed() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn curl_sends_its_body_when_the_backend_says_so() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let serving = async {
        let mut served = backend.accept().await;
        let head = served.request().await.unwrap();
        assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
        assert!(served.is_silent());
        served.send(CONTINUE).await;
        assert_eq!(served.exactly(5).await, b"hello");
        served.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    };
    // Longer than it takes curl to lose its patience: it is the 100 that it waits for.
    let patient = ["--expect100-timeout", "9"];
    let (curl, ()) = tokio::join!(curl(&sidecar, &patient), serving);
    assert_eq!((curl.codes, curl.body.as_str(), curl.ended), (vec![100, 200], "done", Some(0)));
    assert!(curl.took < secs(5), "{:?}", curl.took);
}

/// The backend answers the head and never asks for the body.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn curl_hears_the_final_answer_of_a_backend_that_does_not_want_the_body() {
    let answers: [(u16, &'static [u8]); 4] = [
        (200, b"HTTP/1.1 200 Fine\r\nContent-Length: 4\r\n\r\nsaid"),
        (401, b"HTTP/1.1 401 Who\r\nContent-Length: 4\r\nWWW-Authenticate: Basic\r\n\r\nsaid"),
        (413, b"HTTP/1.1 413 Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsaid"),
        (417, b"HTTP/1.1 417 No\r\nContent-Length: 4\r\n\r\nsaid"),
    ];
    for (code, answer) in answers {
        let backend = RawBackend::answering(b"\r\n\r\n", answer, false).await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let curl = curl(&sidecar, &["--expect100-timeout", "9"]).await;
        assert_eq!((curl.codes.last(), curl.body.as_str()), (Some(&code), "said"), "{curl:?}");
        assert_eq!(curl.ended, Some(0), "{code}");
        assert!(curl.took < secs(5), "{code}: {:?}", curl.took);
        assert!(!backend.received().concat().contains("hello"), "{code}: the body was sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn curl_sends_its_body_unasked_to_a_backend_that_knows_no_expectations() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
    let backend = RawBackend::answering(b"hello", answer, false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let curl = curl(&sidecar, &[]).await;
    assert_eq!((curl.codes, curl.body.as_str(), curl.ended), (vec![200], "done", Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_else_may_be_expected_nobody_knows() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let curl = curl(&sidecar, &["-H", "Expect: a-miracle"]).await;
    assert_eq!((curl.codes, curl.ended), (vec![417], Some(0)));
    assert_eq!(backend.hits(), 0);
}

/// HTTP/1.0 knows no interim answers; whoever speaks it does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_interim_answer_reaches_an_app_of_http10() {
    let backend = Backend::answering(|request| async move {
        use http_body_util::BodyExt;
        http::Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    // hyper says 100 when the body is first asked for.
    let curl = curl(&sidecar, &["--http1.0"]).await;
    assert_eq!((curl.codes, curl.body.as_str(), curl.ended), (vec![200], "hello", Some(0)));

    let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                  HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let backend = RawBackend::answering(b"\r\n\r\n", hints, false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let answer = exchange(sidecar.web(), "GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.header("link"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hints_pass_with_their_fields_and_as_they_come() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(GET).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served
        .send(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\
             Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 5\r\nX-Outrigger-Error: no\r\n\r\n",
        )
        .await;
    // Each has arrived before the next is said.
    let hints = app.head().await.unwrap();
    assert!(hints.head.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{}", hints.head);
    assert_eq!(hints.header("link"), ["</a.css>; rel=preload", "</b.js>"]);
    for gone in ["connection", "x-hop", "content-length", "x-outrigger-error"] {
        assert_eq!(hints.header(gone), [""; 0], "{gone}");
    }
    for code in [100, 102, 103, 199] {
        served.send(format!("HTTP/1.1 {code} On The Way\r\nX-Step: {code}\r\n\r\n")).await;
        let interim = app.head().await.unwrap();
        assert_eq!((interim.status, interim.header("x-step")), (code, vec![&*code.to_string()]));
    }
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = app.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!((answer.header("link"), answer.header("x-step")), (vec![], vec![]));
    // The connections are none the worse.
    app.send(GET).await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().status, 204);
}

/// Interim answers do not end a request: they neither count as its answer nor keep it from
/// getting one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_body_goes_on_whatever_comes_in_between() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(EXPECTING).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 103);
    served.send(CONTINUE).await;
    assert_eq!(app.head().await.unwrap().status, 100);
    app.send("he").await;
    assert_eq!(served.exactly(2).await, b"he");
    served.send("HTTP/1.1 102 Processing\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 102);
    app.send("llo").await;
    assert_eq!(served.exactly(3).await, b"llo");
    served.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().status, 201);
    eventually("one request is counted, by its final answer", secs(5), || async {
        let all = sidecar.metric("outrigger_requests_total", &[]).await;
        let created = sidecar.metric("outrigger_requests_total", &[("code", "201")]).await;
        (all == 1.0 && created == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn more_interim_answers_than_anyone_needs_are_a_502() {
    for (interims, expected) in [(32, 200), (33, 502), (10_000, 502)] {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let mut app = Raw::connect(sidecar.web()).await;
        app.send(GET).await;
        let mut served = backend.accept().await;
        served.request().await.unwrap();
        let mut answer = "HTTP/1.1 102 Processing\r\n\r\n".repeat(interims);
        answer.push_str("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        served.send(answer).await;
        let mut passed = 0;
        let last = loop {
            match app.answer().await.unwrap() {
                answer if answer.status == 102 => passed += 1,
                answer => break answer,
            }
        };
        assert_eq!(last.status, expected, "{interims}");
        assert!(passed >= 32.min(interims) && passed <= 33, "{passed} of {interims}");
        if expected == 502 {
            assert_eq!(last.header("x-outrigger-error"), ["upstream_protocol"]);
            assert!(served.is_closed().await);
        }
    }
}

/// An interim answer shows that the backend has seen the request, and the app has seen its
/// answer begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_has_had_an_interim_answer_is_not_sent_again() {
    let (one, other) = (ByHand::listen().await, ByHand::listen().await);
    let sidecar = Sidecar::start(&config(&[one.address, other.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(GET).await;
    let mut served = tokio::select! {
        served = one.accept() => served,
        served = other.accept() => served,
    };
    served.request().await.unwrap();
    served.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 103);
    drop(served);
    let answer = app.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("x-outrigger-error")), (502, vec!["reset"]));
    assert_eq!(sidecar.metric("outrigger_upstream_connections_total", &[]).await, 1.0);
}
