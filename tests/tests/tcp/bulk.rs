//! Much at once: every byte arrives, in its place, and nothing piles up on the way.

use std::path::Path;
use std::time::Duration;

use outrigger_tests::backend::{ByHand, unused_port};
use outrigger_tests::process::Process;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs, tool};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::time::timeout;

use super::world::{Pattern, config, until_ends, within};

const MUCH: usize = 64 << 20;
const PATIENCE: Duration = secs(60);

/// Pipes that a process has: those it splices through, beside its own two outputs.
fn pipes(process: &Process) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
    let leads_to = descriptors.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let pipes = leads_to.filter(|to| to.to_string_lossy().starts_with("pipe:"));
    pipes.count().saturating_sub(2) / 2
}

/// Both sides say much at once, then little by turns, then much again.
async fn converse<A, B>(mut app: A, mut backend: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let [mut asked, mut heard, mut said, mut answered] = [1, 1, 2, 2].map(Pattern::new);
    for _ in 0..2 {
        {
            let ((mut app_in, mut app_out), (mut in_, mut out)) =
                (split(&mut app), split(&mut backend));
            let all = async {
                tokio::join!(
                    asked.send(&mut app_out, MUCH),
                    heard.expect(&mut in_, MUCH),
                    said.send(&mut out, MUCH),
                    answered.expect(&mut app_in, MUCH),
                )
            };
            within(PATIENCE, "much both ways", all).await;
        }
        for length in (1..200).chain([4096, 70_000]) {
            let turn = async {
                asked.send(&mut app, length).await;
                heard.expect(&mut backend, length).await;
                said.send(&mut backend, length).await;
                answered.expect(&mut app, length).await;
            };
            within(PATIENCE, "a turn", turn).await;
        }
    }
    app.shutdown().await.unwrap();
    assert_eq!(backend.read(&mut [0; 1]).await.unwrap(), 0);
    backend.shutdown().await.unwrap();
    assert_eq!(app.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_and_little_both_ways_over_tcp() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let app = Raw::connect(sidecar.web()).await.stream;
    converse(app, backend.accept().await.stream).await;
    assert!(pipes(&sidecar.process) >= 1, "none of it was spliced");
    until_ends(&sidecar, "finished", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_and_little_both_ways_over_unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let (app, backend) = (dir.path().join("app.sock"), dir.path().join("backend.sock"));
    let listener = UnixListener::bind(&backend).unwrap();
    let sidecar = Sidecar::start(&unix_config(&app, &backend)).await;
    let app = UnixStream::connect(&app).await.unwrap();
    let (backend, _) = listener.accept().await.unwrap();
    converse(app, backend).await;
    assert!(pipes(&sidecar.process) >= 1, "none of it was spliced");
    until_ends(&sidecar, "finished", 1).await;
}

/// The harness waits for a listener with a port, which no connection comes to.
fn unix_config(app: &Path, backend: &Path) -> String {
    let config = config(&[unused_port()], "");
    let local = format!(
        "[listeners.local]\nlisten = \"unix:{}\"\nprotocol = \"tcp\"\ncluster = \"local\"\n\
         [clusters.local.discovery]\nsource = \"static\"\nendpoints = [{{ address = \"unix:{}\" }}]\n",
        app.display(),
        backend.display()
    );
    config + &local
}

/// What nobody reads stays with those who say it, in whichever direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_slow_to_read_holds_back_who_sends_and_fills_no_memory() {
    const CONNECTIONS: usize = 20;
    /// More than the largest buffers that a kernel gives sockets by itself.
    const EACH: usize = 256 << 20;
    for app_sends in [true, false] {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let before = sidecar.process.memory();
        let mut pairs = Vec::new();
        for _ in 0..CONNECTIONS {
            let app = Raw::connect(sidecar.web()).await;
            let served = backend.accept().await;
            pairs.push(if app_sends { (app, served) } else { (served, app) });
        }
        let mut held_back = Vec::new();
        let fill = async {
            for (sender, _) in &mut pairs {
                held_back.push(send_until_held_back(sender, EACH).await);
            }
        };
        let (peak, ()) = sidecar.process.peak_memory(fill).await;
        let grown = peak.saturating_sub(before);
        let most = held_back.iter().max().copied().unwrap();
        println!("app sends: {app_sends}: at most {most} taken, memory grew by {grown}");
        assert!(most < EACH, "nothing held it back");
        // A rest of 64 KiB each, and what memory of all there is beside it.
        assert!(grown < (CONNECTIONS * (64 << 10)) + (4 << 20), "{grown}");
        let read_all = async {
            for ((_, reader), sent) in pairs.iter_mut().zip(&held_back).take(3) {
                Pattern::new(3).expect(&mut reader.stream, *sent).await;
            }
        };
        within(PATIENCE, "what was taken is there", read_all).await;
    }
}

/// Sends until nothing more is taken, and tells how much was.
async fn send_until_held_back(sender: &mut Raw, most: usize) -> usize {
    let (mut pattern, mut sent) = (Pattern::new(3), 0);
    while sent < most {
        match timeout(millis(300), pattern.send_some(&mut sender.stream, most - sent)).await {
            Ok(taken) => sent += taken,
            Err(_) => break,
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn iperf3_has_nothing_to_complain_about() {
    let iperf = tool("iperf3", "iperf3");
    let address = unused_port();
    let mut server = Command::new(&iperf);
    server.args(["-s", "-B", "127.0.0.1", "--forceflush", "-p", &address.port().to_string()]);
    let server = Process::start(server);
    // Both sides tell connections apart by the order in which they come, which two workers may change.
    let sidecar = Sidecar::start(&config(&[address], "[runtime]\nworkers = 1\n")).await;
    let port = sidecar.web().port().to_string();
    // Upwards, downwards, both at once, and over several connections.
    for (test, mode) in (1..).zip([&["-P", "4"][..], &["-R"], &["--bidir"]]) {
        // Until then it is busy with the one before.
        let ready = format!("listening on {} (test #{test})", address.port());
        server.line(secs(10), |line| line.contains(&ready).then_some(())).await;
        let mut client = Command::new(&iperf);
        client.args(["-c", "127.0.0.1", "-p", &port, "-t", "1", "-J"]).args(mode);
        client.kill_on_drop(true);
        let ended = within(secs(30), "iperf3", client.output()).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("it is JSON");
        assert!(ended.status.success() && said["error"].is_null(), "{mode:?}: {said}");
        let received = &said["end"]["sum_received"];
        println!("{mode:?}: {}", received["bits_per_second"]);
        let sent = said["end"]["sum_sent"]["bytes"].as_u64().unwrap();
        assert!(received["bytes"].as_u64().unwrap() > 1 << 20, "{mode:?}: {received}");
        assert!(sent > 1 << 20, "{mode:?}: {sent}");
    }
    eventually("all connections have ended", secs(5), || async {
        let active = sidecar.metric("outrigger_connections_active", &[]).await;
        (active == 0.0).then_some(())
    })
    .await;
}
