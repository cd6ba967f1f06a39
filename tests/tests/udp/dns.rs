//! Real DNS servers behind the sidecar, asked by real clients.

use std::fmt::Write;
use std::net::SocketAddr;

use outrigger_tests::knot::Knot;
use outrigger_tests::process::Process;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs, tool};
use tokio::process::Command;

use crate::world::{PORTS, assert_accounts, config, ended};

/// Names and their addresses, and as much text as Knot puts into a datagram (1,232 bytes).
fn records() -> String {
    let mut records = String::new();
    for host in 0..200 {
        writeln!(records, "host{host} IN A 10.0.0.{host}").unwrap();
    }
    for part in 0..5 {
        writeln!(records, "large IN TXT \"{part:02}{}\"", "x".repeat(200)).unwrap();
    }
    records
}

async fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new(tool("dig", "bind9-dnsutils"));
    command.arg("@127.0.0.1").arg("-p").arg(server.port().to_string()).args(arguments);
    command.args(["+time=2", "+tries=1", "+ignore"]);
    let said = tokio::time::timeout(secs(20), command.output()).await.expect("it ends").unwrap();
    String::from_utf8(said.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dig_is_answered_small_and_large() {
    let _ports = PORTS.lock().await;
    let (one, two) = (Knot::start(&records()).await, Knot::start(&records()).await);
    let sidecar = Sidecar::ready(&config(&[one.address, two.address], "", "")).await;
    for host in [0, 1, 2, 199] {
        let name = format!("host{host}.test.internal");
        let said = dig(sidecar.web(), &["+short", &name, "A"]).await;
        assert_eq!(said.trim(), format!("10.0.0.{host}"));
    }
    let large = ["+bufsize=4096", "+noall", "+answer", "large.test.internal", "TXT"];
    let said = dig(sidecar.web(), &large).await;
    assert_eq!(said.matches("\tTXT\t").count(), 5, "{said}");
    assert_accounts(&sidecar, 5.0).await;
    for knot in [&one, &two] {
        assert!(sidecar.picks("api", &knot.address.to_string()).await >= 2.0);
    }
}

/// What dnsperf counts: sent, completed and lost.
async fn dnsperf(
    server: SocketAddr,
    seconds: u64,
    meanwhile: impl Future<Output = ()>,
) -> [u64; 3] {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("queries");
    let queries: String = (0..200).map(|host| format!("host{host}.test.internal A\n")).collect();
    std::fs::write(&file, queries).unwrap();
    let mut command = Command::new(tool("dnsperf", "dnsperf"));
    command.args(["-s", "127.0.0.1", "-p", &server.port().to_string(), "-t", "2", "-c", "16"]);
    command.args(["-q", "64", "-l", &seconds.to_string(), "-d"]).arg(&file);
    let mut process = Process::start(command);
    meanwhile.await;
    assert_eq!(process.exit(secs(60)).await, 0, "{}", process.log());
    let mut counts = [0; 3];
    for (count, what) in counts.iter_mut().zip(["sent:", "completed:", "lost:"]) {
        *count = process
            .line(secs(5), |line| {
                let said = line.trim().strip_prefix("Queries ")?.strip_prefix(what)?;
                said.split_whitespace().next()?.parse().ok()
            })
            .await;
    }
    println!("{}", process.log());
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dnsperf_loses_nothing() {
    let _ports = PORTS.lock().await;
    let (one, two) = (Knot::start(&records()).await, Knot::start(&records()).await);
    let sidecar = Sidecar::ready(&config(&[one.address, two.address], "", "")).await;
    let used = sidecar.process.cpu();
    let [sent, completed, lost] = dnsperf(sidecar.web(), 5, async {}).await;
    let used = (sidecar.process.cpu() - used).as_micros() as f64 / sent as f64;
    println!("{used:.2} µs for each question and answer");
    assert!(sent > 5000, "{sent} sent");
    assert_eq!((completed, lost), (sent, 0));
    let passed = |direction| sidecar.metric("outrigger_udp_datagrams_total", direction);
    assert_eq!(passed(&[("direction", "from_backend")]).await, sent as f64);
}

/// What was on its way to it is lost, and what is sent before its refusal is here.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_is_killed_costs_what_was_on_its_way() {
    let _ports = PORTS.lock().await;
    let (mut one, two) = (Knot::start(&records()).await, Knot::start(&records()).await);
    let sidecar = Sidecar::ready(&config(&[one.address, two.address], "", "")).await;
    let kill = async {
        tokio::time::sleep(millis(1500)).await;
        one.process.kill().await;
    };
    let [sent, completed, lost] = dnsperf(sidecar.web(), 6, kill).await;
    assert!(sent > 5000 && completed + lost == sent, "{sent} sent, {lost} lost");
    assert!(lost <= 2 * 64, "{lost} of {sent} lost");
    let drained = ended(&sidecar, "drained").await;
    assert_eq!(drained, 0.0);
}
