//! What idle sessions cost.

use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use crate::world::{Client, config, echoes, sessions};

const SESSIONS: usize = 2000;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_thousand_idle_sessions_cost_little_memory_and_less_time() {
    let [backend] = echoes();
    let sidecar = Sidecar::ready(&config(&[backend.address], "", "")).await;
    let first = Client::of(&sidecar);
    first.ask();
    let before = sidecar.process.memory();
    let clients: Vec<_> = (0..SESSIONS).map(|_| Client::of(&sidecar)).collect();
    for client in &clients {
        client.ask();
    }
    assert_eq!(sessions(&sidecar).await, SESSIONS as f64 + 1.0);
    let each = (sidecar.process.memory() - before) / SESSIONS;
    println!("{each} bytes for each session");
    assert!(each <= 2 << 10, "{each} bytes for each session");

    let used = sidecar.process.cpu();
    tokio::time::sleep(secs(3)).await;
    let used = sidecar.process.cpu() - used;
    println!("{used:?} of 3 s for {SESSIONS} idle sessions");
    assert!(used < secs(3) / 20, "{used:?} of 3 s");
}
