//! Requests sent without waiting: answered one after another, each with its own answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use http_body_util::BodyExt;
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A connection on which all of this is being sent while its answers are read.
async fn sending(sidecar: &Sidecar, requests: String) -> Raw {
    let stream = Raw::connect(sidecar.web()).await.stream.into_std().unwrap();
    let mut sender = TcpStream::from_std(stream.try_clone().unwrap()).unwrap();
    tokio::spawn(async move { sender.write_all(requests.as_bytes()).await });
    TcpStream::from_std(stream).unwrap().into()
}

/// Answers with the method, the path and the body that it was sent.
async fn mirror() -> Backend {
    Backend::answering(|request| async move {
        let (method, path) = (request.method().clone(), request.uri().clone());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full([format!("{method} {path} ").as_bytes(), &body].concat()))
    })
    .await
}

/// The request number `i`, and what the mirror answers.
fn numbered(i: usize) -> (String, String) {
    // Some bodies look like requests themselves.
    let body = match i % 5 {
        0 => format!("GET /evil/{i} HTTP/1.1\r\nHost: a\r\n\r\n"),
        1 => "b".repeat(i * 7 % 3000),
        _ => format!("body {i}"),
    };
    let head = |method, fields| format!("{method} /{i} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    match i % 4 {
        0 | 1 => (head("GET", String::new()), format!("GET /{i} ")),
        2 => {
            let fields = format!("Content-Length: {}\r\n", body.len());
            (head("POST", fields) + &body, format!("POST /{i} {body}"))
        }
        _ => {
            let (one, two) = body.split_at(body.len() / 2);
            let chunks = [one, two].into_iter().filter(|chunk| !chunk.is_empty());
            let chunks = chunks.map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            let fields = "Transfer-Encoding: chunked\r\n".to_owned();
            let request = head("PUT", fields) + &chunks.collect::<String>() + "0\r\n\r\n";
            (request, format!("PUT /{i} {body}"))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_thousand_requests_are_answered_in_order_each_with_its_own() {
    let backend = mirror().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let (requests, expected): (String, Vec<_>) = (0..1000).map(numbered).unzip();
    let mut app = sending(&sidecar, requests).await;
    for expected in expected {
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.text()), (200, expected));
    }
    assert_eq!(backend.hits(), 1000);
    // One at a time, over one connection.
    assert_eq!(sidecar.metric("outrigger_upstream_connections_total", &[]).await, 1.0);
    assert!(app.is_silent());
}

/// However the bytes happen to be cut on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_does_not_matter_in_what_pieces_they_come() {
    let backend = mirror().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let (requests, expected): (String, Vec<_>) = (0..24).map(numbered).unzip();
    for piece in [1, 7, 64, 1000] {
        let mut app = Raw::connect(sidecar.web()).await;
        for bytes in requests.as_bytes().chunks(piece) {
            app.send(bytes).await;
            // Each piece a segment, and with some luck a read, of its own.
            tokio::task::yield_now().await;
        }
        for expected in &expected {
            assert_eq!(&app.answer().await.unwrap().text(), expected, "in pieces of {piece}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_behind_a_close_is_not_served() {
    let backend = mirror().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    for last in [
        "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /last HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let before = backend.hits();
        let mut app = Raw::connect(sidecar.web()).await;
        let (requests, expected): (Vec<_>, Vec<_>) = (0..100).map(numbered).unzip();
        app.send(requests[..50].concat() + last + &requests[50..].concat()).await;
        for expected in &expected[..50] {
            assert_eq!(&app.answer().await.unwrap().text(), expected);
        }
        let answer = app.answer().await.unwrap();
        assert_eq!(
            (answer.text().as_str(), answer.header("connection")),
            ("GET /last ", vec!["close"])
        );
        // A plain end, and no reset that could overtake the answers.
        let (rest, end) = app.rest_and_end().await;
        assert!(rest.is_empty() && end.is_ok(), "{end:?}");
        assert_eq!(backend.hits() - before, 51);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_request_ends_the_row_after_those_before_it_are_answered() {
    let backend = mirror().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let bad = [
        ("GET /bad HTTP/1.1\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET /bad HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400),
        ("POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ];
    for (bad, status) in bad {
        let before = backend.hits();
        let mut app = Raw::connect(sidecar.web()).await;
        let (requests, expected): (Vec<_>, Vec<_>) = (0..40).map(numbered).unzip();
        app.send(requests[..20].concat() + bad + &requests[20..].concat()).await;
        for expected in &expected[..20] {
            assert_eq!(&app.answer().await.unwrap().text(), expected);
        }
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (status, vec!["close"]), "{bad}");
        let (rest, end) = app.rest_and_end().await;
        assert!(rest.is_empty() && end.is_ok(), "{end:?}");
        assert_eq!(backend.hits() - before, 20, "{bad}");
    }
}

/// An answer of ours in the middle is an answer like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_has_no_backend_does_not_end_the_row() {
    let backend = mirror().await;
    let routes =
        "routes = [{ host = \"a\", cluster = \"api\" }, { cluster = \"none\" }]\n[clusters";
    let config = config(&[backend.address], "").replacen("cluster = \"api\"\n[clusters", routes, 1)
        + "[clusters.none.discovery]\nsource = \"static\"\nendpoints = []\n";
    let sidecar = Sidecar::start(&config).await;
    let mut app = Raw::connect(sidecar.web()).await;
    let (first, expected_first) = numbered(2);
    let (last, expected_last) = numbered(3);
    app.send(first + "GET / HTTP/1.1\r\nHost: b\r\n\r\n" + &last).await;
    assert_eq!(app.answer().await.unwrap().text(), expected_first);
    assert_eq!(app.answer().await.unwrap().status, 503);
    assert_eq!(app.answer().await.unwrap().text(), expected_last);
}

/// Kilobytes that a process holds in memory.
fn resident(sidecar: &Sidecar) -> usize {
    let status = format!("/proc/{}/status", sidecar.process.pid());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Whoever asks for much and reads little waits alone: requests are taken up one by one, as the
/// answers before them are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn large_answers_to_a_slow_reader_are_not_piled_up() {
    const ANSWER: usize = 1 << 20;
    const REQUESTS: usize = 64;
    let asked = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&asked);
    let backend = Backend::answering(move |request| {
        counting.fetch_add(1, Ordering::Relaxed);
        let number: u8 = request.uri().path()[1..].parse().unwrap();
        async move { Response::new(full(vec![number; ANSWER])) }
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let before = resident(&sidecar);
    let request = |i| format!("GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut app = sending(&sidecar, (0..REQUESTS).map(request).collect()).await;
    // Nothing is read until nothing more is asked for: then every socket on the way is full.
    let mut taken_up = 0;
    eventually("the backend is asked for no more", secs(10), || {
        let before = std::mem::replace(&mut taken_up, asked.load(Ordering::Relaxed));
        async move {
            tokio::time::sleep(millis(300)).await;
            (before > 0 && before == taken_up).then_some(())
        }
    })
    .await;
    assert!(taken_up < REQUESTS / 2, "{taken_up} requests of {REQUESTS} were taken up");
    for number in 0..REQUESTS {
        let answer = app.answer().await.unwrap();
        assert!(answer.body == vec![number as u8; ANSWER], "answer {number}");
    }
    let grown = resident(&sidecar).saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} kB more for one connection");
}
