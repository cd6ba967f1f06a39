//! Orders over the admin API: who may give them, and what is refused.

use http_body_util::Full;
use outrigger_tests::backend::config;
use outrigger_tests::client::{Client, request};
use outrigger_tests::raw::exchange;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use super::world::Worker;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let a = Worker::start().await;
    let sidecar = Sidecar::ready(&config(&[a.address()], "")).await;
    let name = a.name();
    for (backend, body, status, code) in [
        ("127.0.0.1:1", "", 404, "not_found"),
        (&*name, "{\"timeout\": \"soon\"}", 400, "invalid_argument"),
        (&*name, "{\"timeout\": 30}", 400, "invalid_argument"),
        (&*name, "{\"timeuot\": \"30s\"}", 400, "invalid_argument"),
        (&*name, "drain it", 400, "invalid_argument"),
    ] {
        let (got, view) = sidecar.order(backend, "drain", body).await;
        assert_eq!((got, &view["error"]["code"]), (status, &code.into()), "{body}: {view}");
    }
    let large = format!("{{\"timeout\": \"{}\"}}", "1".repeat(1 << 20));
    assert_eq!(sidecar.order(&name, "drain", &large).await.0, 413);
    assert_eq!(sidecar.states("api").await[0].1, "ready");
    // Names may be encoded, as those of IPv6 addresses and sockets must be.
    let encoded = name.replace(':', "%3A");
    assert_eq!(sidecar.order(&encoded, "drain", " {} ").await.0, 200);
    let view = sidecar.backend(&name).await;
    assert_eq!(view["state"], "draining");
    assert_eq!(view["orders"][0]["kind"], "drain");
    assert!(view["reason"].as_str().unwrap().starts_with("by order, until 20"), "{view}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_browser_can_give_no_orders() {
    let a = Worker::start().await;
    let sidecar = Sidecar::ready(&config(&[a.address()], "")).await;
    let path = format!("/api/v1/clusters/api/backends/{}/drain", a.name());
    let mut client = Client::connect(sidecar.admin).await.unwrap();
    for (method, fields, status) in [
        ("GET", &[("x-outrigger-admin", "1")][..], 405),
        ("OPTIONS", &[("origin", "https://evil.example")], 405),
        ("POST", &[], 403),
        ("POST", &[("x-outrigger-admin", "1"), ("origin", "https://evil.example")], 403),
        ("POST", &[("x-outrigger-admin", "1"), ("host", "evil.example")], 403),
    ] {
        let named = |name| fields.iter().any(|(field, _)| *field == name);
        let mut order = request(method, &path, sidecar.admin);
        if named("host") {
            order = http::Request::builder().method(method).uri(&path);
        }
        let order = fields.iter().fold(order, |order, (name, value)| order.header(*name, *value));
        let answer = client.send(order.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{method} {fields:?}");
    }
    assert_eq!(sidecar.states("api").await[0].1, "ready");
}

/// Who never sends the body that it has announced is let go, and nobody else waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_order_that_never_ends_holds_up_nobody() {
    let a = Worker::start().await;
    let sidecar = Sidecar::ready(&config(&[a.address()], "")).await;
    let order = format!(
        "POST /api/v1/clusters/api/backends/{}/drain HTTP/1.1\r\nHost: localhost\r\n\
         X-Outrigger-Admin: 1\r\nContent-Length: 20\r\n\r\n{{",
        a.name()
    );
    let slow = tokio::spawn(async move {
        let mut raw = outrigger_tests::raw::Raw::connect(sidecar.admin).await;
        raw.send(order).await;
        (sidecar, raw)
    });
    let (sidecar, _held) = tokio::time::timeout(secs(5), slow).await.unwrap().unwrap();
    assert_eq!(exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
    assert_eq!(sidecar.states("api").await[0].1, "ready");
}
