//! Clients with a cookie: what it looks like, how long it lasts, and when it is set again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use http_body_util::Full;
use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::client::{Client, request};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};

use crate::world::{BY_COOKIE, Browser, COOKIE, Caller, backends, sticky, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_cookie_is_opaque_and_hidden_from_scripts() {
    let [a] = backends().await;
    let sidecar = Sidecar::start(&config(&[a.address], BY_COOKIE)).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let set = caller.get(&[]).await.set.unwrap();
    assert!(set.starts_with(&format!("{COOKIE}=v1.")), "{set}");
    let attributes: Vec<_> = set.split("; ").skip(1).collect();
    assert_eq!(attributes, ["Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=3600"]);
    let parts: Vec<_> = token(&set).split('.').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 8, 10, 16, 32]);
    assert!(!set.contains(&a.address.port().to_string()), "{set} names {}", a.address);

    // Whoever ends TLS before the app says so to the app, and the app to its sidecar.
    let secure = caller.get(&[("x-forwarded-proto", "https")]).await.set.unwrap();
    assert!(secure.ends_with("; Max-Age=3600; Secure"), "{secure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_backend_sees_the_other_cookies_only() {
    // Answers with what it sees.
    let mirror = Backend::answering(|request| async move {
        let seen = |name: &str| {
            let values = request.headers().get_all(name).iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" + ")
        };
        let seen = format!("[{}] [{}]", seen("cookie"), seen("x-outrigger-affinity"));
        let mut response = Response::new(full(""));
        response.headers_mut().insert("x-outrigger-error", "of the backend".parse().unwrap());
        response.headers_mut().insert("x-backend-saw", seen.parse().unwrap());
        response
    })
    .await;
    let sidecar = Sidecar::start(&config(&[mirror.address], BY_COOKIE)).await;
    let mut browser = Browser::new(sidecar.web()).await;
    browser.visit().await;
    let ours = format!("{COOKIE}={}", browser.cookie.unwrap());
    let mut client = Client::connect(sidecar.web()).await.unwrap();
    for (sent, seen) in [
        (format!("a=b; {ours}; c=\" d \""), "[a=b; c=\" d \"] []"),
        (format!("{ours}; {COOKIE}=forged; lb_session_api=mine"), "[lb_session_api=mine] []"),
        (ours.clone(), "[] []"),
        ("a=b".to_owned(), "[a=b] []"),
    ] {
        let request = request("GET", "/", sidecar.web());
        let request = request.header("cookie", &sent).header("x-outrigger-affinity", "key");
        let answer = client.send(request.body(Full::default()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["x-backend-saw"], seen, "{sent}");
        assert!(!answer.headers().contains_key("x-outrigger-error"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_moves_once_when_its_backend_dies_and_then_stays() {
    let all: [Backend; 3] = backends().await;
    let sidecar = Sidecar::start(&sticky(&all, "by = \"cookie\"")).await;
    let mut browser = Browser::new(sidecar.web()).await;
    let home = browser.visit().await.backend;
    assert_eq!(browser.stays(100).await, home);

    let dead = all.iter().find(|backend| backend.name() == home).unwrap();
    dead.kill();
    let moved = browser.visit().await;
    assert_eq!(moved.status, 200);
    assert!(moved.backend != home && moved.set.is_some(), "{moved:?}");
    assert_eq!(browser.stays(100).await, moved.backend);

    // Its old backend is back: the new one knows the client by now.
    let _back = Backend::at(dead.address).await;
    sidecar.until_state("api", &home, "ready", secs(15)).await;
    assert_eq!(browser.stays(100).await, moved.backend);
    let results = [("hit", 300.0), ("new", 1.0), ("moved", 1.0), ("expired", 0.0), ("forged", 0.0)];
    for (result, expected) in results {
        let counted = sidecar.metric("outrigger_affinity_total", &[("result", result)]).await;
        assert_eq!(counted, expected, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cookie_is_renewed_past_half_of_its_time_and_not_before() {
    let all: [Backend; 2] = backends().await;
    let sidecar = Sidecar::start(&sticky(&all, "by = \"cookie\"\nttl = \"8s\"")).await;
    let mut browser = Browser::new(sidecar.web()).await;
    let first = browser.visit().await;
    let expires = expiry(first.token());
    let mut pace = tokio::time::interval(millis(50));
    let renewed = loop {
        pace.tick().await;
        let visit = browser.visit().await;
        assert_eq!(visit.backend, first.backend);
        if visit.set.is_some() {
            break visit;
        }
        assert!(unix_now() < expires, "it was never renewed");
    };
    // Tokens count in whole seconds.
    let left = expires - unix_now();
    assert!((secs(2)..=secs(4)).contains(&left), "renewed {left:?} before its end");
    assert!(expiry(renewed.token()) >= expires + secs(4), "{:?}", renewed.set);
    assert!(renewed.set.unwrap().contains("; Max-Age=8"));
    assert_eq!(browser.stays(20).await, first.backend);
    let moved = sidecar.metric("outrigger_affinity_total", &[("result", "moved")]).await;
    assert_eq!(moved, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_expired_cookie_is_a_fresh_pick_and_a_new_cookie() {
    let all: [Backend; 2] = backends().await;
    let sidecar = Sidecar::start(&sticky(&all, "by = \"cookie\"\nttl = \"1s\"")).await;
    let mut caller = Caller::new(sidecar.web()).await;
    let old = caller.get(&[]).await.token().to_owned();
    tokio::time::sleep(expiry(&old).saturating_sub(unix_now())).await;
    // Turns are taken: the two answer one after the other, whoever the cookie names.
    let answers = [caller.with_cookie(&old).await, caller.with_cookie(&old).await];
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.token() != old));
    assert_ne!(answers[0].backend, answers[1].backend);
    let expired = sidecar.metric("outrigger_affinity_total", &[("result", "expired")]).await;
    assert_eq!(expired, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_ttl_the_cookie_ends_with_the_session_of_the_browser() {
    let all: [Backend; 2] = backends().await;
    let dir = tempfile::tempdir().unwrap();
    let state = format!("[runtime]\nstate_dir = {:?}\n", dir.path().display().to_string());
    let with_ttl = Sidecar::start(&(sticky(&all, "by = \"cookie\"") + &state)).await;
    let config = sticky(&all, "by = \"cookie\"\nttl = \"0s\"") + &state;
    let of_session = Sidecar::start(&config).await;

    let mut browser = Browser::new(of_session.web()).await;
    let set = browser.visit().await.set.unwrap();
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    assert_eq!(expiry(token(&set)), Duration::ZERO);
    browser.stays(20).await;

    // A cookie from before the setting was changed is replaced by one of the other kind, either way.
    let home = browser.visit().await.backend;
    for (sidecar, sign) in [(&with_ttl, "; Max-Age=3600"), (&of_session, "; SameSite=Lax")] {
        browser = browser.goes_to(sidecar.web()).await;
        let replaced = browser.visit().await;
        assert_eq!(replaced.backend, home);
        assert!(replaced.set.as_ref().is_some_and(|set| set.ends_with(sign)), "{replaced:?}");
        assert_eq!(browser.stays(20).await, home);
    }
}

/// When a token ends, since the Unix epoch; zero: never.
fn expiry(token: &str) -> Duration {
    secs(token.split('.').nth(2).unwrap().parse().unwrap())
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
