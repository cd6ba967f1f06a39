//! Probes of kind `http`: what is asked, and which answers pass.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex};

use ::http::Response;
use outrigger_tests::backend::{Backend, ByHand, RawBackend, config, full, unused_port};
use outrigger_tests::millis;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::{interval, timeout};

use super::{checked, reason, until_probe_says, with_status};

/// A backend whose page the test sets.
async fn with_body(body: &Arc<Mutex<String>>) -> Backend {
    let body = Arc::clone(body);
    Backend::answering(move |_| {
        let body = body.lock().unwrap().clone();
        async move { Response::new(full(body)) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_way_to_fail_is_named() {
    let mute = RawBackend::answering(b"never", b"", false).await;
    let babble = RawBackend::answering(b"\r\n\r\n", b"220 smtp.example\r\n", true).await;
    let dead = unused_port();
    let redirect = Arc::new(AtomicU16::new(302));
    let redirect = with_status(&redirect).await;
    let all = [mute.address, babble.address, dead, redirect.address];
    let keys = "probe = \"http\"\ntimeout = \"400ms\"";
    let sidecar = Sidecar::ready(&checked(&all, keys)).await;
    let reason = async |address: SocketAddr| {
        let reason = reason(&sidecar, address).await;
        assert_ne!(reason, "");
        reason
    };
    assert_eq!(reason(mute.address).await, "no answer within 400ms");
    let said = reason(babble.address).await;
    assert!(said.contains("invalid HTTP"), "{said}");
    let said = reason(dead).await;
    assert!(said.starts_with("connect: "), "{said}");
    assert_eq!(reason(redirect.address).await, "status 302");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn probes_ask_as_configured() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        true,
    )
    .await;
    let check = "[clusters.api.health]\nprobe = \"http\"\npath = \"/up?deep=1\"\n\
                 expect_status = [\"200\", \"404-405\"]\n";
    let extra = format!("host = \"api.internal\"\n{check}");
    let sidecar = Sidecar::ready(&config(&[backend.address], &extra)).await;
    assert_eq!(sidecar.states("api").await[0].1, "ready");
    let probe = backend.received().concat().to_lowercase();
    assert!(probe.starts_with("get /up?deep=1 http/1.1\r\n"), "{probe}");
    assert!(probe.contains("host: api.internal\r\n"), "{probe}");
    assert!(probe.contains("user-agent: outrigger/"), "{probe}");
    assert!(probe.contains("connection: close\r\n"), "{probe}");
}

/// Traffic goes to one port, questions about health to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_port_method_host_and_fields_of_the_check_are_used() {
    let asked =
        RawBackend::answering(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true)
            .await;
    let keys = format!(
        "probe = \"http\"\nport = {}\nmethod = \"OPTIONS\"\nhost = \"own.internal\"\n\
         headers = {{ authorization = \"Bearer t0ken\", user-agent = \"probe/1\" }}",
        asked.address.port()
    );
    let dead = unused_port();
    let check = format!("host = \"api.internal\"\n[clusters.api.health]\n{keys}\n");
    let sidecar = Sidecar::ready(&config(&[dead], &check)).await;
    assert_eq!(reason(&sidecar, dead).await, "");
    let probe = asked.received().concat();
    assert!(probe.starts_with("OPTIONS / HTTP/1.1\r\n"), "{probe}");
    for field in ["host: own.internal", "authorization: Bearer t0ken", "user-agent: probe/1"] {
        assert_eq!(probe.matches(&format!("{field}\r\n")).count(), 1, "{probe}");
    }
    assert_eq!(probe.matches("user-agent:").count(), 1, "{probe}");

    // Without a host of its own the check names the port that it asks.
    let keys = format!("probe = \"http\"\nport = {}", asked.address.port());
    let _sidecar = Sidecar::ready(&checked(&[dead], &keys)).await;
    let probes = asked.received();
    let probe = probes.last().unwrap();
    assert!(probe.contains(&format!("host: {}\r\n", asked.address)), "{probe}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_body_must_match_the_expression() {
    let body = Arc::new(Mutex::new("all is ok\n".to_owned()));
    let backend = with_body(&body).await;
    let keys = "probe = \"http\"\ninterval = \"100ms\"\nexpect_body = '\\bok\\b'";
    let sidecar = Sidecar::ready(&checked(&[backend.address], keys)).await;
    until_probe_says(&sidecar, "").await;
    *body.lock().unwrap() = "broken\n".into();
    until_probe_says(&sidecar, r#"body "broken\n" does not match "\\bok\\b""#).await;
    // What is judged is bounded, though the match is in what was read.
    *body.lock().unwrap() = format!("ok{}", " ".repeat(64 << 10));
    until_probe_says(&sidecar, "body is above 64 KiB").await;
    *body.lock().unwrap() = format!("ok{}", " ".repeat((64 << 10) - 2));
    until_probe_says(&sidecar, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_condition_of_the_json_must_hold() {
    let page = |status: &str, free: &str| {
        format!(r#"{{"status": "{status}", "disk": {{"free_gb": {free}}}, "checks": [true, 1]}}"#)
    };
    let body = Arc::new(Mutex::new(page("healthy", "5")));
    let backend = with_body(&body).await;
    let keys = "probe = \"http\"\ninterval = \"100ms\"\nexpect_body = \"status\"\n\
                [clusters.api.health.expect_json]\n\
                \"/status\" = \"~^health\"\n\
                \"/disk/free_gb\" = { min = 5, max = 500.5 }\n\
                \"/checks/0\" = true\n\"/checks/1\" = 1";
    let sidecar = Sidecar::ready(&checked(&[backend.address], keys)).await;
    until_probe_says(&sidecar, "").await;
    for (page, detail) in [
        (page("ill", "9"), r#""/status" is "ill", expected a match of "^health""#),
        (page("healthy", "4.9"), r#""/disk/free_gb" is 4.9, expected a number from 5 to 500.5"#),
        (page("healthy", "501"), r#""/disk/free_gb" is 501, expected a number from 5 to 500.5"#),
        (r#"{"status": "healthy"}"#.into(), r#""/checks/0" is not in the body"#),
    ] {
        *body.lock().unwrap() = page;
        until_probe_says(&sidecar, detail).await;
    }
    *body.lock().unwrap() = "status: healthy".into();
    let not_json = "body \"status: healthy\" is not JSON: expected value at line 1 column 1";
    until_probe_says(&sidecar, not_json).await;
    *body.lock().unwrap() = page("healthier", "500.5");
    until_probe_says(&sidecar, "").await;
}

/// Each byte comes soon after the last, the end never.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_drips_is_cut_by_the_timeout() {
    let backend = ByHand::listen().await;
    let keys = "probe = \"http\"\ntimeout = \"400ms\"\nexpect_body = \"ok\"";
    let config = checked(&[backend.address], keys);
    let drip = async {
        let mut probe: Raw = backend.accept().await;
        probe.request().await.unwrap();
        probe.send("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\nok").await;
        let mut pace = interval(millis(20));
        let cut = async {
            while probe.try_send(".").await.is_ok() {
                pace.tick().await;
            }
        };
        timeout(millis(5000), cut).await.expect("the probe goes away");
    };
    let (sidecar, ()) = tokio::join!(Sidecar::ready(&config), drip);
    assert_eq!(reason(&sidecar, backend.address).await, "no answer within 400ms");
}
