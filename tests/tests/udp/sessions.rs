//! How sessions end: by silence, by as many answers as they may have, by another that needs the room.

use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::{Instant, sleep};

use crate::world::{
    Client, Echo, assert_accounts, config, echoes, ended, sessions, until_sessions,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn silence_ends_a_session_and_either_side_keeps_it() {
    let [backend] = echoes();
    let idle = "[clusters.api.timeouts]\nidle = \"2s\"";
    let sidecar = Sidecar::ready(&config(&[backend.address], "", idle)).await;
    let (talks, silent) = (Client::of(&sidecar), Client::of(&sidecar));
    silent.ask();
    let start = Instant::now();
    while start.elapsed() < secs(5) {
        talks.ask();
        sleep(millis(100)).await;
    }
    assert_eq!((sessions(&sidecar).await, ended(&sidecar, "idle").await), (1.0, 1.0));
    until_sessions(&sidecar, 0.0, secs(5)).await;
    assert_eq!(sidecar.in_flight("api", &backend.name()).await, 0);
    // Whoever comes back begins another.
    silent.ask();
    assert_accounts(&sidecar, 3.0).await;
    let outcomes = sidecar.metric("outrigger_outcomes_total", &[("outcome", "success")]).await;
    assert_eq!(outcomes, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_ends_with_the_last_answer_it_may_have() {
    let backend = Echo::answering(2);
    let sidecar = Sidecar::ready(&config(&[backend.address], "max_replies = 3", "")).await;
    let client = Client::of(&sidecar);
    for _ in 0..2 {
        client.send(b"a");
        client.send(b"b");
        let said: Vec<_> = (0..3).map(|_| client.answer().expect("it is answered").1).collect();
        assert_eq!(said, [b"a", b"a", b"b"]);
        until_sessions(&sidecar, 0.0, secs(5)).await;
    }
    client.0.set_read_timeout(Some(millis(200))).unwrap();
    assert_eq!(client.answer(), None, "the fourth answer is nobody's");
    assert_eq!(ended(&sidecar, "replies").await, 2.0);
    assert_accounts(&sidecar, 2.0).await;
}

/// The one that was silent for the longest goes, in either direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_table_makes_room_for_the_latest() {
    let [one, two] = echoes();
    let (names, both) = ([one.name(), two.name()], [one.address, two.address]);
    let sidecar = Sidecar::ready(&config(&both, "max_sessions = 4", "")).await;
    let clients: Vec<_> = (0..5).map(|_| Client::of(&sidecar)).collect();
    let first: Vec<_> = clients[..4].iter().map(Client::ask).collect();
    // The oldest is now the second.
    assert_eq!(clients[0].ask(), first[0]);
    clients[4].ask();
    assert_eq!((sessions(&sidecar).await, ended(&sidecar, "evicted").await), (4.0, 1.0));
    for at in [0, 2, 3] {
        assert_eq!(clients[at].ask(), first[at]);
    }
    assert_eq!(ended(&sidecar, "evicted").await, 1.0);
    clients[1].ask();
    assert_eq!((sessions(&sidecar).await, ended(&sidecar, "evicted").await), (4.0, 2.0));
    assert_accounts(&sidecar, 6.0).await;
    let mut in_flight = 0;
    for name in names {
        in_flight += sidecar.in_flight("api", &name).await;
    }
    assert_eq!(in_flight, 4);
}
