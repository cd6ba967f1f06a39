//! Routes: by host, by path, with one canonical path for all.

use http::Response;
use outrigger_tests::backend::{Backend, endpoints, full};
use outrigger_tests::raw::{Answer, Raw, exchange};
use outrigger_tests::sidecar::Sidecar;

/// Says its name and the path that it was asked for.
async fn named(name: &'static str) -> Backend {
    Backend::answering(move |request| async move {
        Response::new(full(format!("{name} {}", request.uri())))
    })
    .await
}

async fn get(sidecar: &Sidecar, host: &str, path: &str) -> Answer {
    exchange(sidecar.web(), format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_route_that_matches_wins() {
    let (api, files, www) = (named("api").await, named("files").await, named("www").await);
    let cluster = |name: &str, backend: &Backend| {
        format!(
            "[clusters.{name}.discovery]\nsource = \"static\"\nendpoints = [{}]\n",
            endpoints(&[backend.address])
        )
    };
    let config = [
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nroutes = [\n\
           { path_prefix = \"/api\", cluster = \"api\" },\n\
           { path_prefix = \"/static/\", cluster = \"files\", rewrite_prefix = \"/\" },\n\
           { host = \"*.example.com\", cluster = \"www\" },\n\
         ]\n"
        .to_owned(),
        cluster("api", &api),
        cluster("files", &files),
        cluster("www", &www),
    ]
    .concat();
    let sidecar = Sidecar::start(&config).await;
    let cases = [
        ("h", "/api", "api /api"),
        ("h", "/api/x?y=z", "api /api/x?y=z"),
        ("h", "/static", "files /"),
        ("h", "/static/a//b?q", "files /a//b?q"),
        ("www.example.com:80", "/", "www /"),
        ("WWW.Example.com", "/other", "www /other"),
        // The canonical path decides, and it is what the backend gets.
        ("h", "/x/../api/./y", "api /api/y"),
        ("h", "/static/%2e%2e/api", "api /api"),
    ];
    for (host, path, expected) in cases {
        let answer = get(&sidecar, host, path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{host} {path}");
    }
    for (host, path) in [("h", "/"), ("h", "/apix"), ("example.com", "/"), ("h", "/api/../x")] {
        let answer = get(&sidecar, host, path).await;
        assert_eq!(
            (answer.status, answer.header("x-outrigger-error")),
            (404, vec!["no_route"]),
            "{path}"
        );
    }
    assert_eq!(get(&sidecar, "h", "/api/..;/x").await.status, 400);
    let unrouted = sidecar.metric("outrigger_requests_total", &[("code", "404")]).await;
    assert_eq!(unrouted, 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_path_routes_a_path_is_nobodys_business() {
    let backend = named("one").await;
    let sidecar = Sidecar::start(&outrigger_tests::backend::config(&[backend.address], "")).await;
    for path in ["/a/../b", "/a/%2e%2e/b", "/a/..;/b", "//x"] {
        assert_eq!(get(&sidecar, "h", path).await.text(), format!("one {path}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_no_route_takes_does_not_cost_the_connection() {
    let backend = named("one").await;
    let config = outrigger_tests::backend::config(&[backend.address], "").replace(
        "cluster = \"api\"\n",
        "routes = [{ path_prefix = \"/api\", cluster = \"api\" }]\n",
    );
    let sidecar = Sidecar::start(&config).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(raw.answer().await.unwrap().status);
    }
    assert_eq!(answers, [404, 200]);
    // A body that nobody reads would be taken for the next request.
    raw.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(raw.answer().await.unwrap().header("connection"), ["close"]);
    assert!(raw.is_closed().await);
}
