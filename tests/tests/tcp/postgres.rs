//! PostgreSQL behind the sidecar: its clients notice nothing, and sessions are left in order.

use std::process::Stdio;

use outrigger_tests::postgres::{Postgres, ask, output, pgbench, psql};
use outrigger_tests::process::Process;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::Instant;

use super::world::{config, until_ends, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn psql_and_pgbench_have_nothing_to_complain_about() {
    let server = Postgres::start().await;
    let sidecar = Sidecar::ready(&config(&[server.address], "")).await;
    assert_eq!(ask(sidecar.web(), "select 6 * 7").await, "42");
    // More than any buffer, with its length counted where it arrives.
    let much = "select repeat('x', 1000) from generate_series(1, 20000)";
    let rows = ask(sidecar.web(), much).await;
    assert_eq!((rows.lines().count(), rows.len()), (20_000, 20_000 * 1001 - 1));

    output(pgbench(sidecar.web()).args(["-i", "-q", "-s", "1", "postgres"])).await;
    let mut bench = pgbench(sidecar.web());
    let said = output(bench.args(["-c", "8", "-j", "2", "-T", "5", "postgres"])).await;
    println!("{said}");
    assert!(said.contains("number of failed transactions: 0 (0.000%)"), "{said}");
    // A connection of pgbench's own, beside the eight, asks for the size.
    until_ends(&sidecar, "backend_reset", 0).await;
    assert_eq!(sidecar.metric("outrigger_errors_total", &[]).await, 0.0);
}

/// A session that says which server it is at, and then something every fifth of a second.
fn session(sidecar: &Sidecar) -> Process {
    let mut session = psql(sidecar.web());
    session.args(["-c", "select 'at ' || inet_server_port()"]);
    for _ in 0..100 {
        session.args(["-c", "select 'slept' from pg_sleep(0.2)"]);
    }
    session.stdin(Stdio::null());
    Process::start(session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_stays_until_its_server_has_been_drained() {
    let servers = [Postgres::start().await, Postgres::start().await];
    let sidecar = Sidecar::ready(&config(&servers.each_ref().map(|s| s.address), "")).await;
    let mut session = session(&sidecar);
    let port: u16 = session.line(secs(10), |line| line.strip_prefix("at ")?.parse().ok()).await;
    let at = |server: &&Postgres| server.address.port() == port;
    let leaves = servers.iter().find(at).expect("it is one of them");
    let stays = servers.iter().find(|server| !at(server)).expect("there is another");

    let ordered = Instant::now();
    sidecar.drain(&leaves.name(), "3s").await;
    for _ in 0..4 {
        let port = ask(sidecar.web(), "select inet_server_port()").await;
        assert_eq!(port, stays.address.port().to_string());
    }
    assert!(ordered.elapsed() < secs(3), "{:?}", ordered.elapsed());
    let code = session.exit(secs(10)).await;
    let took = ordered.elapsed();
    println!("closed after {took:?}");
    assert!(took >= millis(2900) && took < secs(5), "{took:?}");
    assert_ne!(code, 0, "{}", session.log());
    until_ends(&sidecar, "drained", 1).await;
    let again = within(secs(10), "a new session", ask(sidecar.web(), "select 1")).await;
    assert_eq!(again, "1");
}
