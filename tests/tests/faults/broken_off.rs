//! A backend that goes in the middle of its answer: nobody may take what has come for whole.

use outrigger_tests::backend::{ByHand, config};
use outrigger_tests::raw::Raw;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Close,
    Reset,
}

impl End {
    fn happen(self, connection: Raw) {
        match self {
            Self::Close => drop(connection),
            Self::Reset => connection.reset(),
        }
    }
}

struct World {
    backend: ByHand,
    sidecar: Sidecar,
    app: Raw,
}

impl World {
    async fn start() -> Self {
        let backend = ByHand::listen().await;
        let sidecar = Sidecar::start(&config(&[backend.address], "")).await;
        let app = Raw::connect(sidecar.web()).await;
        Self { backend, sidecar, app }
    }

    /// The app asks, and the backend begins to answer.
    async fn begin(&mut self, method: &str, beginning: &str) -> Raw {
        self.app.send(format!("{method} /first HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let mut served = self.backend.accept().await;
        assert!(served.request().await.unwrap().contains("/first"));
        served.send(beginning).await;
        served
    }

    /// The next request is the next that the backend hears of, on a new connection: the first
    /// was not sent again, and its connection is not used any more.
    async fn goes_on(&self) {
        eventually("the attempt counts as broken off", secs(5), || async {
            let labels = [("outcome", "reset")];
            let resets = self.sidecar.metric("outrigger_outcomes_total", &labels).await;
            (resets == 1.0).then_some(())
        })
        .await;
        let mut app = Raw::connect(self.sidecar.web()).await;
        app.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut served = self.backend.accept().await;
        assert!(served.request().await.unwrap().contains("/second"));
        served.send(OK).await;
        assert_eq!(app.answer().await.unwrap().text(), "ok");
        let retries = self.sidecar.metric("outrigger_retries_total", &[]).await;
        assert_eq!(retries, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_answer_that_breaks_off_is_reset_and_not_asked_for_again() {
    use End::{Close, Reset};
    for (framing, begun, arrives, end) in [
        ("Content-Length: 10", "half ", "half ", Close),
        ("Content-Length: 10", "half ", "half ", Reset),
        ("Transfer-Encoding: chunked", "5\r\nhalf \r\n", "5\r\nhalf \r\n", Close),
        ("Transfer-Encoding: chunked", "5\r\nhalf \r\n", "5\r\nhalf \r\n", Reset),
        // Inside a chunk, and after all of them but the last.
        ("Transfer-Encoding: chunked", "a\r\nhalf ", "5\r\nhalf \r\n", Close),
        ("Transfer-Encoding: chunked", "a\r\nhalf ", "5\r\nhalf \r\n", Reset),
        ("Transfer-Encoding: chunked", "5\r\nhalf \r\n0\r\n", "5\r\nhalf \r\n", Close),
        ("Transfer-Encoding: chunked", "5\r\nhalf \r\n0\r\n", "5\r\nhalf \r\n", Reset),
        // Where the end of the connection is the end of the answer, only a reset is another.
        ("Server: x", "half ", "5\r\nhalf \r\n", Reset),
    ] {
        let mut world = World::start().await;
        let beginning = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{begun}");
        let served = world.begin("GET", &beginning).await;
        assert_eq!(world.app.head().await.unwrap().status, 200);
        assert_eq!(world.app.exactly(arrives.len()).await, arrives.as_bytes());
        end.happen(served);
        let (rest, ended) = world.app.rest_and_end().await;
        assert!(rest.is_empty() && ended.is_err(), "{framing} {end:?}: {rest:?}, {ended:?}");
        world.goes_on().await;
    }
}

/// Of a head that breaks off nothing was passed on, so the app is told; but somebody has begun to
/// answer, and is not asked twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn half_a_head_is_a_502_and_not_asked_for_again() {
    for end in [End::Close, End::Reset] {
        let mut world = World::start().await;
        let mut served = world.begin("GET", "HTTP/1.1 103 Early Hints\r\n\r\n").await;
        assert_eq!(world.app.head().await.unwrap().status, 103);
        served.send("HTTP/1.1 200 OK\r\nContent-").await;
        end.happen(served);
        let answer = world.app.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("x-outrigger-error")), (502, vec!["reset"]));
        world.goes_on().await;
    }
}
