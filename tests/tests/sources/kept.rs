//! What is kept on disk for a later life, and when that is not used.

use outrigger_tests::backend::Backend;
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::consul::Consul;
use outrigger_tests::load::burst;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use serde_json::json;

fn state_dir(dir: &tempfile::TempDir) -> String {
    format!("[runtime]\nstate_dir = \"{}\"\n", dir.path().display())
}

/// Somebody works on it: a restart without Consul must not send it new work.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_is_in_maintenance_is_not_used_by_a_cold_start() {
    let (at_work, resting) = (Backend::start().await, Backend::start().await);
    let dir = tempfile::tempdir().unwrap();
    let mut consul = Consul::start().await;
    for backend in [&at_work, &resting] {
        consul.register(backend.address, json!({})).await;
    }
    let config = state_dir(&dir) + &consul.config("");
    let sidecar = Sidecar::ready(&config).await;
    let on_disk = |wanted: bool| {
        let (file, name) = (dir.path().join("endpoints/api.json"), resting.name());
        async move {
            eventually(&format!("{name} is on disk: {wanted}"), secs(5), || async {
                let text = std::fs::read_to_string(&file).ok()?;
                (text.contains(&name) == wanted).then_some(())
            })
            .await;
        }
    };
    on_disk(true).await;
    consul.maintenance(resting.address, true).await;
    on_disk(false).await;
    drop(sidecar);
    consul.process.kill_once().await;

    let sidecar = Sidecar::ready(&config).await;
    sidecar.until_members("api", vec![at_work.name()], secs(3)).await;
    let before = resting.hits();
    burst(sidecar.web(), 2, 50).await.assert_no_failures();
    assert_eq!(resting.hits(), before);
}

/// What cannot be written is said once and never fatal, and is written when it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_written_is_said_once_and_made_up_for() {
    let backends = [Backend::start().await, Backend::start().await];
    let bind = Bind::start(&srv(0, 1, backends[0].address, "a")).await;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("endpoints");
    std::fs::write(&place, "in the way").unwrap();
    let sidecar = Sidecar::ready(&(state_dir(&dir) + &bind.config(""))).await;
    let said = || sidecar.process.log().matches("cannot be written").count();
    eventually("it is said", secs(3), || async { (said() > 0).then_some(()) }).await;
    // Every change of the set is one more attempt.
    let port = backends[1].address.port();
    bind.update(&format!("update add {SERVICE}. 1 SRV 0 1 {port} a.{ZONE}.")).await;
    sidecar.until_members("api", backends.iter().map(Backend::name).collect(), secs(5)).await;
    burst(sidecar.web(), 2, 50).await.assert_no_failures();
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "in the way");

    std::fs::remove_file(&place).unwrap();
    bind.update(&format!("update delete {SERVICE}. SRV 0 1 {port} a.{ZONE}.")).await;
    eventually("it is on disk", secs(8), || async {
        let text = std::fs::read_to_string(place.join("api.json")).ok()?;
        (text.contains(&backends[0].name()) && !text.contains(&backends[1].name())).then_some(())
    })
    .await;
    assert_eq!(said(), 1, "{}", sidecar.process.log());
}
