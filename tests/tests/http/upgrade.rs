//! Switching protocols: only when both sides have said so, and not a byte before.

use outrigger_tests::backend::{Backend, ByHand, config, full};
use outrigger_tests::raw::{Answer, Raw};
use outrigger_tests::sidecar::Sidecar;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\nX-Own: 1\r\n\r\n";

/// The answer of the app's side to this request, when the backend's side answers so.
async fn asked(request: &str, answer: &str) -> (Answer, String) {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(request).await;
    let mut served = backend.accept().await;
    let seen = served.request().await.unwrap();
    served.send(answer).await;
    (app.head().await.unwrap(), seen)
}

fn field(head: &str, name: &str) -> Vec<String> {
    let named = |line: &str| {
        let (field, value) = line.split_once(": ")?;
        field.eq_ignore_ascii_case(name).then(|| value.to_owned())
    };
    head.lines().filter_map(named).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_switch_that_both_sides_agree_on_is_passed_on() {
    let (answer, seen) = asked(ASK, SWITCH).await;
    assert_eq!(
        (field(&seen, "connection"), field(&seen, "upgrade")),
        (ones("Upgrade"), ones("raw"))
    );
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("connection"), ["Upgrade"]);
    assert_eq!((answer.header("upgrade"), answer.header("x-own")), (vec!["raw"], vec!["1"]));

    // One of several that the app offers, in whatever case.
    let offers =
        ASK.replace("raw", "x/1, RAW").replace("Connection: Upgrade", "Connection: a, UPGRADE");
    let (answer, seen) = asked(&offers, SWITCH).await;
    assert_eq!(field(&seen, "upgrade"), ["x/1, RAW"]);
    assert_eq!((answer.status, answer.header("upgrade")), (101, vec!["raw"]));
}

fn ones(value: &str) -> Vec<String> {
    vec![value.to_owned()]
}

/// What an app says behind its request belongs to the new protocol if there is one; the backend
/// must not take it for anything before it has agreed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_sent_before_the_switch_waits_for_it() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(format!("{ASK}early ")).await;
    let mut served = backend.accept().await;
    assert!(served.request().await.unwrap().starts_with("GET /chat "));
    app.send("bytes").await;
    // Once an interim answer has made its way, what was sent before it would have, too.
    served.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 103);
    assert!(served.is_silent(), "{:?}", served.exactly(1).await);
    // The backend's first words come in one piece with its agreement.
    served.send(format!("{SWITCH}welcome")).await;
    assert_eq!(served.exactly(11).await, b"early bytes");
    assert_eq!(app.head().await.unwrap().status, 101);
    assert_eq!(app.exactly(7).await, b"welcome");
    app.send("ping").await;
    assert_eq!(served.exactly(4).await, b"ping");
    served.send("pong").await;
    assert_eq!(app.exactly(4).await, b"pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_switch_what_follows_is_the_next_request() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 103);
    assert!(served.is_silent());
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(app.answer().await.unwrap().text(), "no");
    let next = served.request().await.unwrap();
    assert!(next.starts_with("GET /next ") && field(&next, "upgrade").is_empty(), "{next}");
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext").await;
    assert_eq!(app.answer().await.unwrap().text(), "next");

    // The same for bytes that are no request: they are refused here, and the backend never
    // sees them.
    app.send(format!("{ASK}\x01\x02\x03 not HTTP\r\n\r\n")).await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().status, 403);
    assert_eq!(app.answer().await.unwrap().status, 400);
    assert!(app.is_closed().await);
    assert!(served.is_silent());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_switch_that_was_not_asked_for_is_a_502() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let other = SWITCH.replace("Upgrade: raw", "Upgrade: other");
    let unsaid = SWITCH.replace("Connection: Upgrade\r\n", "");
    let unnamed = SWITCH.replace("Upgrade: raw\r\n", "");
    let cases = [
        ("not asked", get.to_owned(), SWITCH),
        ("not meant", ASK.replace("Connection: Upgrade\r\n", ""), SWITCH),
        ("of HTTP/1.0", ASK.replace("HTTP/1.1", "HTTP/1.0"), SWITCH),
        ("to HTTP/2", ASK.replace("raw", "h2c"), &SWITCH.replace("raw", "h2c")),
        ("another protocol", ASK.to_owned(), &other),
        ("no Connection", ASK.to_owned(), &unsaid),
        ("no protocol", ASK.to_owned(), &unnamed),
    ];
    for (what, request, answer) in cases {
        let (answer, _) = asked(&request, answer).await;
        let reason = answer.header("x-outrigger-error");
        assert_eq!((answer.status, reason), (502, vec!["upstream_protocol"]), "{what}");
    }
}

/// The connection of a backend that switched on its own is at nobody's disposal.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn after_a_502_for_a_switch_both_go_on_without_that_connection() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send(format!("{SWITCH}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
    assert_eq!(app.answer().await.unwrap().status, 502);
    assert!(served.is_closed().await);
    app.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut served = backend.accept().await;
    assert!(served.request().await.unwrap().starts_with("GET /next "));
    served.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood").await;
    assert_eq!(app.answer().await.unwrap().text(), "good");
}

/// A backend that agrees before the request is complete would have its rest taken for bytes of
/// the new protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_switch_in_the_middle_of_a_request_is_a_502() {
    for framing in
        ["Content-Length: 10\r\n\r\nhalf ", "Transfer-Encoding: chunked\r\n\r\na\r\nhalf "]
    {
        let request =
            ASK.replace("GET", "POST").replace("raw\r\n\r\n", &format!("raw\r\n{framing}"));
        assert_eq!(asked(&request, SWITCH).await.0.status, 502, "{framing}");
    }
    // One that waits for it may switch.
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    app.send(ASK.replace("raw\r\n\r\n", "raw\r\nContent-Length: 4\r\n\r\nbodyearly")).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    assert_eq!(served.exactly(4).await, b"body");
    served.send(SWITCH).await;
    assert_eq!(app.head().await.unwrap().status, 101);
    assert_eq!(served.exactly(5).await, b"early");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_a_wish_to_switch_is_not_passed_on_as_one() {
    let backend = Backend::answering(|request| async move {
        let has = |name| request.headers().contains_key(name);
        http::Response::new(full(format!(
            "{} {} {}",
            has("upgrade"),
            has("connection"),
            has("http2-settings")
        )))
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let cases = [
        // HTTP/2 over this connection would be HTTP/2 past everything that is checked here.
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: H2C\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c, raw\r\n",
        "Connection: Upgrade\r\nUpgrade: raw, h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: raw\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c-14\r\n",
        // Not named by Connection: a leftover of another hop (RFC 9110, section 7.8).
        "Upgrade: raw\r\n",
        "Connection: keep-alive\r\nUpgrade: raw\r\n",
        "Connection: Upgrade\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
    ];
    let mut app = Raw::connect(sidecar.web()).await;
    for fields in cases {
        app.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        let answer = app.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "false false false"), "{fields}");
    }
}
