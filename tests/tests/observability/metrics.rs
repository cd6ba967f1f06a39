//! What operators see: metrics, Prometheus, the admin API, the status command.

use std::process::Stdio;

use outrigger_tests::backend::{Backend, config, unused_port};
use outrigger_tests::load::burst;
use outrigger_tests::process::Process;
use outrigger_tests::raw::exchange;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{binary, client, eventually, root, secs, tool};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const HTTP_CHECK: &str = "[clusters.api.health]\nprobe = \"http\"\ninterval = \"500ms\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&(config(&[backend.address], "") + HTTP_CHECK)).await;
    burst(sidecar.web(), 2, 50).await;
    eventually("durations are folded in", secs(5), || async {
        let count = sidecar.metric("outrigger_request_duration_seconds_count", &[]).await;
        (count == 100.0).then_some(())
    })
    .await;
    let (status, page) = sidecar.get("/metrics").await;
    assert_eq!(status, 200);
    let mut promtool = Command::new(tool("promtool", "prometheus"));
    promtool.args(["check", "metrics"]);
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).await.unwrap();
    let said = promtool.wait_with_output().await.unwrap();
    let text =
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.is_empty(), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn counters_agree_with_what_was_sent() {
    let (alive, dead) = (Backend::start().await, unused_port());
    let sidecar = Sidecar::ready(&config(&[alive.address, dead], "")).await;
    // Known series are there from the start.
    let (_, page) = sidecar.get("/metrics").await;
    for series in [
        "outrigger_requests_total{listener=\"web\",outrigger_cluster=\"api\",code=\"200\",grpc_code=\"\"} 0",
        "outrigger_errors_total{listener=\"web\",outrigger_cluster=\"api\",reason=\"timeout\"} 0",
        "outrigger_probes_total{outrigger_cluster=\"api\",result=\"fail\"} 0",
        &format!(
            "outrigger_outcomes_total{{outrigger_cluster=\"api\",backend=\"{dead}\",outcome=\"reset\"}} 0"
        ),
    ] {
        assert!(page.contains(series), "{series} in\n{page}");
    }
    burst(sidecar.web(), 1, 50).await.assert_no_failures();
    sidecar.until_state("api", &dead.to_string(), "ejected", secs(2)).await;
    let refusals = [("outcome", "connect_failed")];
    let refused = sidecar.metric("outrigger_outcomes_total", &refusals).await;
    burst(sidecar.web(), 1, 50).await.assert_no_failures();
    exchange(sidecar.web(), "GET / HTTP/1.1\r\n\r\n").await;
    let metric = async |name: &str, labels: &[(&str, &str)]| sidecar.metric(name, labels).await;
    let alive_name = alive.name();
    assert_eq!(metric("outrigger_requests_total", &[("code", "200")]).await, 100.0);
    assert_eq!(metric("outrigger_requests_total", &[("code", "400")]).await, 1.0);
    assert_eq!(metric("outrigger_errors_total", &[("reason", "bad_request")]).await, 1.0);
    let success = [("backend", alive_name.as_str()), ("outcome", "success")];
    assert_eq!(metric("outrigger_outcomes_total", &success).await, 100.0);
    assert_eq!(metric("outrigger_retries_total", &[("result", "success")]).await, refused);
    // After three of them nobody asks the dead one any more, as soon as that is known.
    assert!(refused >= 3.0, "{refused}");
    assert_eq!(metric("outrigger_outcomes_total", &refusals).await, refused);
    let ejections = metric("outrigger_ejections_total", &[("reason", "consecutive")]).await;
    assert_eq!(ejections, 1.0);
    assert_eq!(metric("outrigger_bytes_total", &[("direction", "from_backend")]).await, 600.0);
    assert_eq!(metric("outrigger_connections_total", &[("listener", "web")]).await, 3.0);
    assert_eq!(metric("outrigger_eligible_backends", &[]).await, 1.0);
    assert_eq!(metric("outrigger_backend_weight", &[("backend", &alive_name)]).await, 1.0);
    let ready = [("backend", alive_name.as_str()), ("state", "ready")];
    assert_eq!(metric("outrigger_backend_state", &ready).await, 1.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(metric("outrigger_build_info", &version).await, 1.0);
    assert!(metric("process_resident_memory_bytes", &[]).await > 1e6);
    let updated = metric("outrigger_discovery_last_success_timestamp_seconds", &[]).await;
    assert!(updated > 1.7e9, "{updated}");
}

/// The scrape configuration that is shipped, with the address of this sidecar.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_real_prometheus_scrapes_it_and_answers_queries() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::ready(&(config(&[backend.address], "") + HTTP_CHECK)).await;
    burst(sidecar.web(), 2, 50).await;
    let (dir, address) = (tempfile::tempdir().unwrap(), unused_port());
    let shipped = std::fs::read_to_string(root().join("deploy/prometheus.yml")).unwrap();
    let file = dir.path().join("prometheus.yml");
    let config = shipped.replace("127.0.0.1:9910", &sidecar.admin.to_string()).replace("15s", "1s");
    assert!(config.contains(&sidecar.admin.to_string()));
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(tool("prometheus", "prometheus"));
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"));
    let prometheus = Process::start(command);
    for (query, value) in [
        ("up", "1"),
        ("sum(outrigger_requests_total)", "100"),
        (
            "outrigger_requests_total{listener=\"web\",outrigger_cluster=\"api\",code=\"200\"}",
            "100",
        ),
        ("outrigger_backend_state{state=\"ready\"}", "1"),
        ("outrigger_request_duration_seconds_count", "100"),
        ("histogram_quantile(0.5, outrigger_request_duration_seconds_bucket) < bool 0.1", "1"),
        ("outrigger_build_info", "1"),
        ("outrigger_eligible_backends", "1"),
        ("min(process_start_time_seconds > bool 0)", "1"),
    ] {
        let path = format!("/api/v1/query?query={}", percent(query));
        eventually(&format!("{query} is {value}; {}", prometheus.name), secs(30), || async {
            let (_, body) = client::get(address, &path).await.ok()?;
            let answer: Value = serde_json::from_str(&body).ok()?;
            (answer["data"]["result"][0]["value"][1] == value).then_some(())
        })
        .await;
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_admin_api_takes_gets_of_its_pages_from_this_machine() {
    let sidecar = Sidecar::ready(&config(&[], "")).await;
    let ask = async |request: &str| exchange(sidecar.admin, request).await;
    for path in ["/livez", "/readyz", "/metrics", "/api/v1/clusters"] {
        let answer = ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{path}");
        let answer =
            ask(&format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"))
                .await;
        assert_eq!((answer.status, answer.header("allow")), (405, vec!["GET, HEAD"]), "{path}");
    }
    let answer = ask("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let error: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((answer.status, &error["error"]["code"]), (404, &Value::from("not_found")));
    // A page whose name was made to point here.
    let answer = ask("GET /api/v1/clusters HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn off_loopback_only_the_public_pages_answer() {
    let config = config(&[], "");
    let sidecar = Sidecar::start_with(&config, |command| {
        command.env("OUTRIGGER_ADMIN__LISTEN", "0.0.0.0:0");
    })
    .await;
    for (path, status) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/api/v1/clusters", 403)]
    {
        let port = sidecar.admin.port();
        let answer = client::get(([127, 0, 0, 1], port).into(), path).await.unwrap();
        assert_eq!(answer.0, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn status_shows_a_table_and_json_and_says_when_nobody_is_there() {
    let (alive, dead) = (Backend::start().await, unused_port());
    let sidecar = Sidecar::ready(&(config(&[alive.address, dead], "") + HTTP_CHECK)).await;
    let admin = sidecar.admin.to_string();
    let status = async |args: &[&str]| {
        let output = Command::new(binary()).arg("status").args(args).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, table, _) = status(&["--admin", &admin]).await;
    assert_eq!(code, 0);
    assert!(table.starts_with("api: 1 of 2 backends ready, round_robin\n"), "{table}");
    let row = |name: &str| {
        let line = table.lines().find(|line| line.contains(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row(&alive.name())[1..], ["ready", "0", "1", "0", "static"]);
    assert_eq!(row(&dead.to_string())[1..7], ["unhealthy", "0", "1", "0", "static", "connect:"]);

    let (code, json, _) = status(&["--admin", &admin, "--json", "api"]).await;
    let view: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &view["clusters"][0]["name"]), (0, &Value::from("api")));
    let (code, _, error) = status(&["--admin", &admin, "apo"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("there are: api"), "{error}");
    let nobody = unused_port().to_string();
    let (code, _, error) = status(&["--admin", &nobody]).await;
    assert_eq!(code, 3);
    assert!(error.contains("no sidecar answers"), "{error}");
}
