//! The access log: who asked whom for what, who was connected to whom, and why that ended.

use std::io::Read;
use std::time::SystemTime;

use outrigger_tests::backend::{Backend, ByHand, RawBackend, config, unused_port};
use outrigger_tests::haproxy::Haproxy;
use outrigger_tests::load::burst;
use outrigger_tests::raw::{Raw, exchange};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UdpSocket;

/// A sidecar with the log that it writes.
struct World {
    sidecar: Sidecar,
    dir: TempDir,
}

impl World {
    async fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        let sidecar = Sidecar::ready(&format!("{config}[log]\naccess = {log:?}\n")).await;
        Self { sidecar, dir }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default()
    }

    /// The log, once it has so many lines.
    async fn lines(&self, count: usize) -> Vec<Value> {
        let text = eventually(&format!("{count} lines are written"), secs(5), || async {
            let text = self.text();
            (text.lines().count() >= count && text.ends_with('\n')).then_some(text)
        })
        .await;
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), count, "{text}");
        lines
    }

    async fn app(&self) -> Raw {
        Raw::connect(self.sidecar.web()).await
    }
}

fn is(line: &Value, expected: &[(&str, Value)]) {
    for (key, value) in expected {
        assert_eq!(line[key], *value, "`{key}` of {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_that_was_answered() {
    let backend = Backend::start().await;
    let world = World::start(&config(&[backend.address], "")).await;
    let mut app = world.app().await;
    app.send(
        "POST /a%20b;c?token=secret HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: curl/8.5\r\n\
         Cookie: id=secret\r\nAuthorization: Basic secret\r\nContent-Length: 4\r\n\r\nbody",
    )
    .await;
    assert_eq!(app.answer().await.unwrap().status, 200);
    app.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().status, 200);

    let lines = world.lines(2).await;
    let us = app.stream.local_addr().unwrap().to_string();
    is(
        &lines[0],
        &[
            ("protocol", "http".into()),
            ("listener", "web".into()),
            ("cluster", "api".into()),
            ("client", us.into()),
            ("backend", backend.name().into()),
            ("bytes_to_backend", 4.into()),
            ("bytes_from_backend", 6.into()),
            ("end", "finished".into()),
            ("status", 200.into()),
            ("error", Value::Null),
            ("attempts", 1.into()),
            ("version", "1.1".into()),
            ("method", "POST".into()),
            ("path", "/a%20b;c".into()),
            ("host", "shop.test".into()),
            ("user_agent", "curl/8.5".into()),
        ],
    );
    let started = lines[0]["timestamp"].as_str().unwrap();
    let now = SystemTime::now();
    let age = now.duration_since(humantime::parse_rfc3339(started).unwrap()).unwrap();
    assert!(age < secs(10), "{started}");
    let lasted = lines[0]["duration_seconds"].as_f64().unwrap();
    assert!(lasted > 0.0 && lasted < 10.0, "{lasted}");
    let silent = ["host", "user_agent"].map(|key| (key, Value::Null));
    is(&lines[1], &silent);
    is(&lines[1], &[("version", "1.0".into()), ("path", "/".into())]);
    assert!(!world.text().contains("secret"), "{}", world.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_that_was_tried_again() {
    let (alive, dead) = (Backend::start().await, unused_port());
    let never_ejected = "[clusters.api.outlier]\nenabled = false";
    let config = config(&[alive.address, dead], never_ejected) + "[runtime]\nworkers = 1\n";
    let world = World::start(&config).await;
    for _ in 0..4 {
        assert_eq!(
            exchange(world.sidecar.web(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.status,
            200
        );
    }
    let lines = world.lines(4).await;
    // The one worker takes turns.
    let again = lines.iter().filter(|line| line["attempts"] == 2).count();
    assert_eq!(again, 2, "{lines:?}");
    for line in lines {
        is(&line, &[("backend", alive.name().into()), ("status", 200.into())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ones_that_nobody_answered() {
    let dead = unused_port();
    let world =
        World::start(&config(&[dead], "").replace(
            "cluster = \"api\"",
            "routes = [{ path_prefix = \"/api\", cluster = \"api\" }]",
        ))
        .await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(exchange(world.sidecar.web(), &get("/other")).await.status, 404);
    assert_eq!(exchange(world.sidecar.web(), &get("/api")).await.status, 503);
    let lines = world.lines(2).await;
    is(
        &lines[0],
        &[
            ("status", 404.into()),
            ("error", "no_route".into()),
            ("end", "finished".into()),
            ("cluster", "".into()),
            ("backend", Value::Null),
            ("attempts", 0.into()),
            ("path", "/other".into()),
        ],
    );
    is(
        &lines[1],
        &[
            ("status", 503.into()),
            ("error", "connect_failed".into()),
            ("cluster", "api".into()),
            ("backend", dead.to_string().into()),
            ("attempts", 1.into()),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ones_that_broke_off() {
    let backend = ByHand::listen().await;
    let world = World::start(&config(&[backend.address], "")).await;
    let beginning = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let ask = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

    // The backend resets in the middle of its answer,
    let mut app = world.app().await;
    app.send(ask).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send(beginning).await;
    assert_eq!(app.head().await.unwrap().status, 200);
    assert_eq!(app.exactly(5).await, b"hello");
    served.reset();
    let lines = world.lines(1).await;
    let whole = ("bytes_from_backend", 5.into());
    is(&lines[0], &[("status", 200.into()), ("end", "backend_reset".into()), whole.clone()]);

    // the app in the middle of it,
    let mut app = world.app().await;
    app.send(ask).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send(beginning).await;
    assert_eq!(app.head().await.unwrap().status, 200);
    assert_eq!(app.exactly(5).await, b"hello");
    app.reset();
    let lines = world.lines(2).await;
    is(&lines[1], &[("status", 200.into()), ("end", "app_reset".into()), whole]);

    // and before it.
    let mut app = world.app().await;
    app.send(ask).await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    app.reset();
    let lines = world.lines(3).await;
    let gone = [("status", 499.into()), ("end", "app_reset".into()), ("error", Value::Null)];
    is(&lines[2], &gone);
    let asked = ("backend", backend.address.to_string().into());
    is(&lines[2], &[asked, ("attempts", 1.into()), ("path", "/a".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tunnel_once_it_has_ended() {
    let backend = ByHand::listen().await;
    let world = World::start(&config(&[backend.address], "")).await;
    let mut app = world.app().await;
    app.send("GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").await;
    let mut served = backend.accept().await;
    served.request().await.unwrap();
    served.send("HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n").await;
    assert_eq!(app.head().await.unwrap().status, 101);
    app.send("to the backend").await;
    assert_eq!(served.exactly(14).await, b"to the backend");
    served.send("to the app").await;
    assert_eq!(app.exactly(10).await, b"to the app");
    assert_eq!(world.text(), "");
    drop((app, served));
    let lines = world.lines(1).await;
    is(
        &lines[0],
        &[
            ("status", 101.into()),
            ("end", "finished".into()),
            ("cluster", "api".into()),
            ("path", "/t".into()),
            ("bytes_to_backend", 14.into()),
            ("bytes_from_backend", 10.into()),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_a_client_says_a_line_is_a_line() {
    // One that takes every target.
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let backend = RawBackend::answering(b"\r\n\r\n", ok, false).await;
    let world = World::start(&config(&[backend.address], "")).await;
    let long = "x".repeat(4 << 10);
    let cases = [
        // Served, with all that a target may have.
        (b"GET /'\"{}<a>%0A HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 200),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \"a\",\t\xff\xc2\x85\xe2\x80\xa8\r\n\r\n"
                .to_vec(),
            200,
        ),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\nUser-Agent: {long}\r\n\r\n").into(), 200),
        // A target that controls terminals, one that names a password, and what cannot be read.
        ("GET /\u{9b}31m HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (b"GET http://me:secret@a/b?c HTTP/1.1\r\nHost: me:secret@a\r\n\r\n".to_vec(), 400),
        (b"GET /\x1b[31m\"secret HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 400),
    ];
    for (before, (request, status)) in cases.iter().enumerate() {
        let mut app = world.app().await;
        app.send(request).await;
        assert_eq!(app.answer().await.unwrap().status, *status, "{}", request.escape_ascii());
        // The next one may be served by a worker that is sooner.
        world.lines(before + 1).await;
    }
    let lines = world.lines(cases.len()).await;
    let text = world.text();
    let printable = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    assert!(text.bytes().all(printable) && !text.contains("secret"), "{text}");
    is(&lines[0], &[("path", "/'\"{}<a>%0A".into())]);
    is(&lines[1], &[("user_agent", "\"a\",\t\u{fffd}\u{85}\u{2028}".into())]);
    let cut = &long[..1 << 10];
    is(&lines[2], &[("path", format!("/{}", &cut[1..]).into()), ("user_agent", cut.into())]);
    is(&lines[3], &[("path", "/\u{9b}31m".into()), ("error", "bad_request".into())]);
    is(&lines[4], &[("path", "/b".into()), ("host", "a".into())]);
    let unread = ["version", "method", "path", "host", "user_agent"].map(|key| (key, Value::Null));
    is(&lines[5], &unread);
    is(&lines[5], &[("status", 400.into()), ("error", "bad_request".into())]);
}

/// Nobody waits for whoever should read the log: neither a request nor the end of the sidecar.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_log_that_is_stuck_holds_up_nobody() {
    let backend = Backend::start().await;
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("access.log");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // For both, so that it need not wait for the other side.
    let mut reader = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let config = config(&[backend.address], "") + &format!("[log]\naccess = {pipe:?}\n");
    let mut sidecar = Sidecar::ready(&config).await;
    burst(sidecar.web(), 2, 3000).await.assert_no_failures();
    let dropped = sidecar.metric("outrigger_access_log_dropped_total", &[]).await;
    assert!(dropped > 0.0 && dropped < 6000.0, "{dropped}");
    assert_eq!(tokio::time::timeout(secs(10), sidecar.stop()).await.expect("it ends"), 0);
    let mut start = vec![0; 4 << 10];
    reader.read_exact(&mut start).unwrap();
    let first = String::from_utf8(start).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    is(&first, &[("status", 200.into())]);
}

#[tokio::test]
async fn connections_and_sessions_are_written_down() {
    let at = unused_port();
    let section = format!(
        "frontend it\n    mode http\n    bind {at}\n    http-request return status 200 \
         content-type text/plain string \"hello\"\n"
    );
    let _backend = Haproxy::start(&section, &[at]).await;
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let echo_at = echo.local_addr().unwrap();
    let world = World::start(&format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\ncluster = \"api\"\n\
         [listeners.time]\nlisten = \"127.0.0.1:0\"\nprotocol = \"udp\"\ncluster = \"time\"\n\
         max_replies = 1\n\
         [clusters.api.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{at}\" }}]\n\
         [clusters.time.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"{echo_at}\" }}]\n"
    ))
    .await;
    let mut app = Raw::connect(world.sidecar.web()).await;
    let us = app.stream.local_addr().unwrap().to_string();
    app.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(app.answer().await.unwrap().text(), "hello");
    drop(app);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(b"what?", world.sidecar.listener("time")).await.unwrap();
    let mut datagram = [0; 16];
    let (_, session) = echo.recv_from(&mut datagram).await.unwrap();
    echo.send_to(b"that", session).await.unwrap();

    let lines = world.lines(2).await;
    let of = |protocol: &str| lines.iter().find(|line| line["protocol"] == protocol).unwrap();
    let tcp = of("tcp");
    assert_eq!((&tcp["listener"], &tcp["cluster"]), (&"web".into(), &"api".into()));
    assert_eq!((&tcp["client"], &tcp["end"]), (&us.into(), &"finished".into()));
    assert_eq!((&tcp["backend"], &tcp["bytes_to_backend"]), (&at.to_string().into(), &18.into()));
    assert!(tcp["bytes_from_backend"].as_u64().unwrap() > 5, "{tcp}");
    let udp = of("udp");
    assert_eq!((&udp["end"], &udp["backend"]), (&"replies".into(), &echo_at.to_string().into()));
    assert_eq!((&udp["bytes_to_backend"], &udp["bytes_from_backend"]), (&5.into(), &4.into()));
}
