//! Apps that stop talking: who has only said all is answered, who is gone costs nothing more.

use outrigger_tests::backend::{ByHand, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A sidecar, an app that has sent these bytes, and the connection on which they reached the
/// backend, up to the head.
async fn sent(request: &str) -> (Sidecar, Raw, Raw) {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(request).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    (sidecar, app, served)
}

/// Exactly one attempt has ended so.
async fn until_outcome(sidecar: &Sidecar, wanted: &str) {
    eventually(&format!("the attempt is {wanted}"), secs(5), || async {
        let mut all = 0.0;
        for outcome in ["success", "reset", "timeout", "connect_failed", "cancelled"] {
            all += sidecar.metric("outrigger_outcomes_total", &[("outcome", outcome)]).await;
        }
        let of = sidecar.metric("outrigger_outcomes_total", &[("outcome", wanted)]).await;
        (all == 1.0 && of == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_has_said_all_is_answered() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    for request in [GET, post, chunked, "GET / HTTP/1.0\r\n\r\n"] {
        let (sidecar, mut app, mut served) = sent(request).await;
        app.finish().await;
        // An interim answer later, the sidecar has seen that no more will come.
        served.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        if request.contains("HTTP/1.1") {
            assert_eq!(app.head().await.unwrap().status, 103);
        }
        served.send(OK).await;
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{request}");
        let (_, end) = app.rest_and_end().await;
        assert!(end.is_ok(), "{end:?}");
        until_outcome(&sidecar, "success").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn so_are_the_requests_behind() {
    let second = "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    let (_sidecar, mut app, mut served) = sent(&format!("{GET}{second}")).await;
    app.finish().await;
    served.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 103);
    served.send(OK).await;
    assert_eq!(app.answer().await.unwrap().text(), "ok");
    assert!(served.request().await.unwrap().starts_with("POST /second "));
    assert_eq!(served.exactly(4).await, b"body");
    served.send(OK.replace("ok", "2.")).await;
    assert_eq!(app.answer().await.unwrap().text(), "2.");
    let (rest, end) = app.rest_and_end().await;
    assert!(rest.is_empty() && end.is_ok(), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_resets_before_the_answer_is_a_cancel() {
    let (sidecar, app, mut served) = sent(GET).await;
    app.reset();
    assert!(served.is_closed().await);
    until_outcome(&sidecar, "cancelled").await;
    eventually("the request counts as given up", secs(5), || async {
        let given_up = sidecar.metric("outrigger_requests_total", &[("code", "499")]).await;
        (given_up == 1.0).then_some(())
    })
    .await;
}

/// Whole or not, the backend must be able to tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_leaves_inside_its_body_is_a_cancel() {
    for (framing, half) in [
        ("Content-Length: 10", "half "),
        ("Transfer-Encoding: chunked", "a\r\nhalf "),
        ("Transfer-Encoding: chunked", "5\r\nhalf \r\n"),
    ] {
        for reset in [true, false] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            let (sidecar, mut app, mut served) = sent(&format!("{head}{half}")).await;
            if reset {
                app.reset();
            } else {
                app.finish().await;
                app.rest().await;
            }
            let seen = String::from_utf8(served.rest().await).unwrap();
            assert!(!seen.contains("\r\n0\r\n") && !seen.starts_with('0'), "a false end: {seen:?}");
            until_outcome(&sidecar, "cancelled").await;
        }
    }
}

/// A stream that has nothing to say for a while, whose app has left meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_resets_inside_an_answer_is_a_cancel_even_while_the_backend_is_silent() {
    for framing in
        ["Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\n", "\r\n"]
    {
        let (sidecar, mut app, mut served) = sent(GET).await;
        served.send(format!("HTTP/1.1 200 OK\r\n{framing}event")).await;
        assert_eq!(app.head().await.unwrap().status, 200);
        app.reset();
        assert!(served.is_closed().await, "{framing:?}");
        until_outcome(&sidecar, "cancelled").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_app_that_leaves_a_conversation_is_a_cancel() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for how in ["reset", "finish", "nonsense"] {
        let (sidecar, mut app, mut served) = sent(chunked).await;
        served.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(app.head().await.unwrap().status, 200);
        app.send("5\r\nhello\r\n").await;
        assert_eq!(served.exactly(10).await, b"5\r\nhello\r\n");
        match how {
            "reset" => app.reset(),
            // Its body can never become whole.
            "finish" => app.finish().await,
            _ => app.send("no chunk\r\n").await,
        }
        assert!(served.is_closed().await, "{how}");
        until_outcome(&sidecar, "cancelled").await;
    }
}
