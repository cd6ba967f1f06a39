//! Small pieces are on their way as soon as they are written.

use outrigger_tests::backend::ByHand;
use outrigger_tests::millis;
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::Instant;

use super::world::config;

/// The second does not wait until the backend's kernel says that it has the first, which takes it 40 ms
/// as long as there is no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_question_in_two_pieces_is_heard_at_once() {
    let backend = ByHand::listen().await;
    let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
    let mut app = Raw::connect(sidecar.web()).await;
    let mut served = backend.accept().await;
    let mut took = Vec::new();
    for _ in 0..25 {
        let asked = Instant::now();
        for piece in ["ques", "tion"] {
            app.send(piece).await;
            assert_eq!(served.exactly(4).await, piece.as_bytes());
        }
        took.push(asked.elapsed());
        served.send("answer").await;
        assert_eq!(app.exactly(6).await, b"answer");
    }
    took.sort();
    assert!(took[took.len() / 2] < millis(20), "{took:?}");
}
