//! `outrigger drain` and `outrigger resume`.

use outrigger_tests::backend::config;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;
use tokio::time::Instant;

use super::world::{Worker, download};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn waiting_ends_when_nothing_is_left_and_fails_if_that_took_force() {
    let (a, b) = (Worker::start().await, Worker::start().await);
    let sidecar = Sidecar::ready(&config(&[a.address(), b.address()], "")).await;
    let drain = async |backend: &str| {
        sidecar.command(&["drain", "api", backend, "--timeout", "2s", "--wait"]).await
    };
    let started = Instant::now();
    let (code, said) = drain(&a.name()).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("{} of api drains until 20", a.name())), "{said}");
    assert!(said.contains("is drained, nothing was closed by force"), "{said}");
    // Nothing was under way: a second of quiet is enough.
    assert!(started.elapsed() < secs(2), "{:?}", started.elapsed());

    let (code, said) = sidecar.command(&["status"]).await;
    assert!(code == 0 && said.contains("draining") && said.contains("drained"), "{said}");
    let (code, said) = sidecar.command(&["resume", "api", &a.name()]).await;
    assert_eq!((code, said), (0, format!("{} of api is ready\n", a.name())));

    let (from, cut) = download(sidecar.web(), "none").await;
    let (code, said) = drain(&from).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("{from} is drained, 1 closed by force")), "{said}");
    assert!(!cut.await.unwrap().whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mistakes_are_named() {
    let a = Worker::start().await;
    let mut sidecar = Sidecar::ready(&config(&[a.address()], "")).await;
    let (code, said) = sidecar.command(&["drain", "apj", &a.name()]).await;
    assert!(code == 1 && said.contains("no cluster is called \"apj\"; there are: api"), "{said}");
    let (code, said) = sidecar.command(&["drain", "api", "127.0.0.1:1"]).await;
    assert!(code == 1 && said.contains("no backend is called \"127.0.0.1:1\""), "{said}");
    let (code, said) = sidecar.command(&["resume", "api", "127.0.0.1:1"]).await;
    assert!(code == 1 && said.contains("no backend is called \"127.0.0.1:1\""), "{said}");
    let (code, said) = sidecar.command(&["drain", "api", &a.name(), "--timeout", "30"]).await;
    assert!(code == 2 && said.contains("a duration such as"), "{said}");
    assert_eq!(sidecar.states("api").await[0].1, "ready");
    sidecar.stop().await;
    let (code, said) = sidecar.command(&["drain", "api", &a.name()]).await;
    assert!(code == 3 && said.contains("no sidecar answers"), "{said}");
}
