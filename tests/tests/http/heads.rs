//! Heads: what the backend and the app are told.

use outrigger_tests::backend::{Backend, RawBackend, config, full};
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// The head that a backend received for this request.
async fn seen_by_backend(request: &str, cluster: &str) -> String {
    let backend = RawBackend::answering(b"\r\n\r\n", OK, false).await;
    let sidecar = Sidecar::start(&config(&[backend.address], cluster)).await;
    let request = request.replace("PORT", &sidecar.web().port().to_string());
    assert_eq!(exchange(sidecar.web(), &request).await.status, 200, "{request}");
    let port = backend.address.port().to_string();
    backend.received().concat().replace(&port, "BACKEND")
}

fn field<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_is_told_where_the_request_came_from() {
    let head = seen_by_backend("GET /a?b=c HTTP/1.1\r\nHost: api.example\r\n\r\n", "").await;
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), ["api.example"]);
    assert_eq!(field(&head, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(field(&head, "x-forwarded-proto"), ["http"]);
    assert_eq!(field(&head, "x-forwarded-host"), ["api.example"]);
    assert_eq!(field(&head, "via"), ["1.1 outrigger"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_of_one_hop_ends_at_it() {
    let head = seen_by_backend(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nTE: gzip\r\n\
         X-Outrigger-Affinity: k\r\nAuthorization: Bearer t\r\n\r\n",
        "",
    )
    .await;
    for gone in [
        "connection",
        "x-private",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "x-outrigger-affinity",
    ] {
        assert_eq!(field(&head, gone), [""; 0], "{gone} in {head}");
    }
    assert_eq!(field(&head, "authorization"), ["Bearer t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn host_auto_names_the_target_only_when_the_app_named_the_sidecar() {
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for own in ["localhost:PORT", "127.0.0.1:PORT", "LOCALHOST", "[::1]:1"] {
        let head = seen_by_backend(&get(own), "").await;
        assert_eq!(field(&head, "host"), ["127.0.0.1:BACKEND"], "{own}");
    }
    assert_eq!(field(&seen_by_backend(&get("x.example:81"), "").await, "host"), ["x.example:81"]);
    // HTTP/1.0 may do without; the backend gets one all the same.
    let head = seen_by_backend("GET / HTTP/1.0\r\n\r\n", "").await;
    assert_eq!(field(&head, "host"), ["127.0.0.1:BACKEND"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn host_as_configured() {
    let get = "GET / HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n";
    let head = seen_by_backend(get, "host = \"preserve\"").await;
    assert!(field(&head, "host")[0].starts_with("localhost:"), "{head}");
    let head = seen_by_backend(get, "host = \"api.internal:81\"").await;
    assert_eq!(field(&head, "host"), ["api.internal:81"]);
    let other = "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n";
    let head = seen_by_backend(other, "host = \"target\"").await;
    assert_eq!(field(&head, "host"), ["127.0.0.1:BACKEND"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_absolute_target_decides_the_host_and_becomes_a_path() {
    let request = "GET http://real.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n";
    let head = seen_by_backend(request, "").await;
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), ["real.example"]);
    let head = seen_by_backend("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "").await;
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn answers_lose_what_is_of_one_hop_and_keep_the_rest() {
    let backend = RawBackend::answering(
        b"\r\n\r\n",
        b"HTTP/1.1 200 Fine\r\nConnection: X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\n\
          Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Outrigger-Error: timeout\r\n\
          Content-Length: 2\r\n\r\nok",
        false,
    )
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for gone in ["connection", "x-own", "keep-alive", "x-outrigger-error"] {
        assert_eq!(answer.header(gone), [""; 0], "{gone}");
    }
    assert_eq!(answer.header("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.text(), "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_are_kept_and_requests_may_be_pipelined() {
    let backend = Backend::answering(|request| async move {
        http::Response::new(full(request.uri().path().to_owned()))
    })
    .await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().text(), "/1");
    assert_eq!(raw.answer().await.unwrap().text(), "/2");
    raw.send("GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().text(), "/3");
    assert!(raw.is_closed().await);
    // One connection of the app, one to the backend.
    assert_eq!(sidecar.metric("outrigger_upstream_connections_total", &[]).await, 1.0);

    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("GET /4 HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().text(), "/4");
    assert!(raw.is_closed().await, "HTTP/1.0 does not keep a connection unasked");
    let mut raw = Raw::connect(sidecar.web()).await;
    for path in ["/5", "/6"] {
        raw.send(format!("GET {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")).await;
        assert_eq!(raw.answer().await.unwrap().text(), path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn own_answers_say_why_as_text_or_json() {
    let sidecar = Sidecar::start(&config(&[], "")).await;
    let answer = exchange(sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("x-outrigger-error")), (503, vec!["no_backend"]));
    assert_eq!(answer.text(), "outrigger: no_backend: the cluster has no backends\n");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html, application/json;q=0.9\r\n\r\n";
    let answer = exchange(sidecar.web(), request).await;
    let json: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!(json["error"]["code"], "no_backend");
    // The answer to a HEAD has no body, whatever its length says.
    let mut raw = Raw::connect(sidecar.web()).await;
    raw.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!((raw.head().await.unwrap().status, raw.rest().await.len()), (503, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unix_socket_serves_as_listener_and_as_backend() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let (front, back) = (dir.path().join("front.sock"), dir.path().join("back.sock"));
    let backend = tokio::net::UnixListener::bind(&back).unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = backend.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nunix").await.unwrap();
        }
    });
    let config = format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [listeners.local]\nlisten = \"unix:{}\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"unix:{}\" }}]\n",
        front.display(),
        back.display()
    );
    let mut sidecar = Sidecar::start(&config).await;
    for restart in [false, true] {
        if restart {
            // A socket file that the last process left behind is no obstacle.
            sidecar.process.kill().await;
            sidecar = Sidecar::start(&config).await;
        }
        let mut stream = tokio::net::UnixStream::connect(&front).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("unix"), "{answer}");
    }
    serving.abort();
}
