//! Who may call, and what.

use std::os::unix::fs::PermissionsExt;

use outrigger_proto::v1;
use outrigger_tests::control::Caller;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs, tool};
use tonic::{Code, Status};

use crate::config;

const READER: &str = "a-token-of-somebody-who-only-reads";
const STEERER: &str = "a-token-of-somebody-who-may-steer-";
const ADMIN: &str = "a-token-of-somebody-who-may-do-all";

async fn list(caller: &Caller) -> Result<(), Status> {
    let request = v1::ListClustersRequest::default();
    caller.control().list_clusters(request).await.map(drop)
}

async fn report(caller: &Caller) -> Result<(), Status> {
    let request = v1::ReportOutcomeRequest {
        cluster: "api".into(),
        backend: "10.0.0.1:1".into(),
        outcome: v1::Outcome::Success.into(),
        ..Default::default()
    };
    caller.control().report_outcome(request).await.map(drop)
}

/// What is said of a call that is not refused for who makes it.
fn admitted(answer: Result<(), Status>) -> bool {
    let refused = [Code::Unauthenticated, Code::PermissionDenied];
    answer.map_or_else(|status| !refused.contains(&status.code()), |()| true)
}

fn code(answer: Result<(), Status>) -> Code {
    answer.map_or_else(|status| status.code(), |()| Code::Ok)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn on_loopback_everybody_steers_who_calls_it_by_its_name() {
    let sidecar = Sidecar::start(&config(1)).await;
    let caller = Caller::of(&sidecar).await;
    assert!(list(&caller).await.is_ok() && admitted(report(&caller).await));
    for own in ["127.0.0.1:9911", "[::1]:1", "LOCALHOST"] {
        assert!(list(&caller.clone().wanting(own)).await.is_ok(), "{own}");
    }
    for forged in ["evil.example", "localhost.evil.example", "10.0.0.1:9911", "0.0.0.0"] {
        let answer = list(&caller.clone().wanting(forged)).await;
        assert_eq!(code(answer), Code::PermissionDenied, "{forged}");
    }
    let refused = "the authority must be localhost";
    sidecar.process.line(secs(5), |line| line.contains(refused).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn on_a_unix_socket_users_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let own = rustix::process::geteuid().as_raw();
    for (keys, mode, admits) in [
        (String::new(), 0o600, true),
        ("socket_mode = \"0660\"".into(), 0o660, true),
        (format!("allow_uids = [{}, {own}]", own + 1), 0o600, true),
        (format!("allow_uids = [{}]", own + 1), 0o600, false),
    ] {
        let table = format!("[control]\nlisten = \"unix:{}\"\n{keys}\n", socket.display());
        // The socket of the one before is still there, and nobody's.
        let mut sidecar = Sidecar::start(&(config(1) + &table)).await;
        let file = std::fs::metadata(&socket).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, mode);
        let caller = Caller::of(&sidecar).await.wanting("whatever.example");
        let expected = if admits { Code::Ok } else { Code::PermissionDenied };
        assert_eq!(code(list(&caller).await), expected, "{keys}");
        assert_eq!(admitted(report(&caller).await), admits, "{keys}");
        drop(caller);
        sidecar.process.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_decides_what_its_owner_may_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, format!("read {READER}\nsteer {STEERER}\n")).unwrap();
    let table = format!("[control]\nlisten = \"127.0.0.1:0\"\ntoken_file = {file:?}\n");
    let sidecar = Sidecar::start(&(config(1) + &table)).await;
    let caller = Caller::of(&sidecar).await;
    let with = |token: &str| caller.clone().with_token(token);

    assert_eq!(code(list(&caller).await), Code::Unauthenticated);
    for wrong in ["", "wrong", &READER[1..], &format!("{READER}x"), ADMIN] {
        assert_eq!(code(list(&with(wrong)).await), Code::Unauthenticated, "{wrong}");
    }
    assert_eq!(code(list(&with(READER)).await), Code::Ok);
    let denied = report(&with(READER)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("the role `steer`"), "{denied:?}");
    assert!(admitted(report(&with(STEERER)).await));
    // Orchestrators have none.
    let health = tonic_health::pb::HealthCheckRequest::default();
    assert!(caller.health().check(health.clone()).await.is_ok());
    let status = caller.health().watch(health).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    // The file is read again, and one that is no use changes nothing.
    std::fs::write(&file, "short").unwrap();
    let stay = "the old tokens stay in use";
    sidecar.process.line(secs(10), |line| line.contains(stay).then_some(())).await;
    assert_eq!(code(list(&with(READER)).await), Code::Ok);
    std::fs::write(&file, ADMIN).unwrap();
    eventually("the new token is in use", secs(10), || async {
        list(&with(ADMIN)).await.is_ok().then_some(())
    })
    .await;
    assert_eq!(code(list(&with(READER)).await), Code::Unauthenticated);
    assert!(!sidecar.process.log().contains(ADMIN), "no token is logged");
}

/// What a page of another site may send without asking is refused before it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_browser_may_send_unasked_is_refused() {
    let sidecar = Sidecar::start(&config(1)).await;
    let url = format!("http://{}/outrigger.v1.ControlService/ListClusters", sidecar.control);
    for (content_type, status) in [
        ("text/plain", "415"),
        ("", "415"),
        ("application/grpc", "200"),
        ("application/grpc+proto", "200"),
    ] {
        let field = format!("content-type: {content_type}");
        let mut curl = tokio::process::Command::new(tool("curl", "curl"));
        curl.args(["-sS", "--http2-prior-knowledge", "--max-time", "5", "--noproxy", "*"]);
        curl.args(["-X", "POST", "-o", "/dev/null", "-w", "%{http_code}", "-H", &field, &url]);
        let said = curl.output().await.unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&said), status, "{content_type:?}");
    }
}

/// Tokens are part of the configuration.
#[test]
fn tokens_that_are_of_no_use_are_told_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (file, tokens) = (dir.path().join("outrigger.toml"), dir.path().join("tokens"));
    std::fs::write(&tokens, format!("# ours\nsteer {STEERER}\nhush-hush\n")).unwrap();
    let table = format!("[control]\nlisten = \"127.0.0.1:0\"\ntoken_file = {tokens:?}\n");
    std::fs::write(&file, config(1) + &table).unwrap();
    for command in ["check", "run"] {
        let mut outrigger = std::process::Command::new(outrigger_tests::binary());
        outrigger.arg(command).arg("-c").arg(&file).env("OUTRIGGER_ADMIN__LISTEN", "127.0.0.1:0");
        let ended = outrigger.output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(78), "{said}");
        let expected = format!("{}:3: control.token_file: has a token of 9 ", tokens.display());
        assert!(said.contains(&expected) && !said.contains("hush"), "{said}");
    }
}
