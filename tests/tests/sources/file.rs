//! The source `file`: every way in which files change, under load.

use std::path::Path;

use outrigger_tests::backend::Backend;
use outrigger_tests::load::Load;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::time::sleep;

/// A change is seen within this.
const SEEN_WITHIN: std::time::Duration = secs(1);

async fn three() -> [Backend; 3] {
    [Backend::start().await, Backend::start().await, Backend::start().await]
}

fn listing(backends: &[&Backend]) -> String {
    let items: Vec<_> =
        backends.iter().map(|b| format!("{{\"address\": \"{}\"}}", b.address)).collect();
    format!("{{\"endpoints\": [{}]}}", items.join(",\n"))
}

fn config(path: &Path) -> String {
    format!(
        "[listeners.web]\nlisten = \"127.0.0.1:0\"\ncluster = \"api\"\n\
         [clusters.api.discovery]\nsource = \"file\"\npath = \"{}\"\n",
        path.display()
    )
}

fn ready(states: &[(String, String)]) -> Vec<String> {
    states.iter().filter(|(_, s)| s == "ready").map(|(name, _)| name.clone()).collect()
}

async fn until_ready(sidecar: &Sidecar, backends: &[&Backend]) {
    let mut wanted: Vec<_> = backends.iter().map(|b| b.name()).collect();
    wanted.sort();
    eventually(&format!("ready are {wanted:?}"), SEEN_WITHIN, || async {
        let mut ready = ready(&sidecar.states("api").await);
        ready.sort();
        (ready == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whole_files_act_and_others_keep_the_last_set() {
    let [a, b, c] = three().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("api.json");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(&listing(&[&a, &b]));
    let sidecar = Sidecar::ready(&config(&file)).await;
    let load = Load::start(sidecar.web(), 8, 300);
    until_ready(&sidecar, &[&a, &b]).await;
    // Written in place.
    write(&listing(&[&a, &b, &c]));
    until_ready(&sidecar, &[&a, &b, &c]).await;
    // Renamed over it.
    let draft = dir.path().join("draft");
    std::fs::write(&draft, listing(&[&b, &c])).unwrap();
    std::fs::rename(&draft, &file).unwrap();
    until_ready(&sidecar, &[&b, &c]).await;
    // Half-written, for as long as that takes; empty; of another shape; gone.
    let whole = listing(&[&a, &b, &c]);
    for bad in [&whole[..whole.len() / 2], "", "{\"endpoints\": 5}", "{\"endpoints\": [{}]}"] {
        write(bad);
        sidecar.until_stale(true, secs(3)).await;
        assert_eq!(ready(&sidecar.states("api").await).len(), 2, "{bad}");
        write(&listing(&[&b, &c]));
        sidecar.until_stale(false, secs(3)).await;
    }
    let failures =
        sidecar.metric("outrigger_discovery_updates_total", &[("result", "failure")]).await;
    assert!((4.0..=8.0).contains(&failures), "a bad file is said once: {failures}");
    std::fs::remove_file(&file).unwrap();
    sidecar.until_stale(true, secs(3)).await;
    sleep(secs(1)).await;
    assert_eq!(ready(&sidecar.states("api").await).len(), 2);
    write(&whole);
    until_ready(&sidecar, &[&a, &b, &c]).await;
    sidecar.until_stale(false, secs(3)).await;
    // An empty list is an answer, which is doubted.
    write("{\"endpoints\": []}");
    eventually("they are held", SEEN_WITHIN, || async {
        let cluster = sidecar.cluster("api").await;
        let backends = cluster["backends"].as_array().unwrap();
        backends.iter().all(|b| b["suspect_until"].is_string()).then_some(())
    })
    .await;
    load.stop().await.assert_no_failures();
}

/// As Kubernetes updates a ConfigMap: the file is a link through `..data`, which is turned to another
/// directory in one step.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_link_above_the_file_that_turns_elsewhere_is_seen() {
    use std::os::unix::fs::symlink;
    let [a, b, c] = three().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let version = |name: &str, backends: &[&Backend]| {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(path(name).join("api.yaml"), listing(backends)).unwrap();
    };
    version("..1", &[&a, &b]);
    symlink("..1", path("..data")).unwrap();
    symlink("..data/api.yaml", path("api.yaml")).unwrap();
    let sidecar = Sidecar::ready(&config(&path("api.yaml"))).await;
    let load = Load::start(sidecar.web(), 8, 300);
    until_ready(&sidecar, &[&a, &b]).await;
    for (number, backends) in [("..2", [&b, &c]), ("..3", [&a, &c]), ("..4", [&a, &b])] {
        version(number, &backends);
        symlink(number, path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        until_ready(&sidecar, &backends).await;
    }
    load.stop().await.assert_no_failures();
}

/// What is no file is refused, and nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_pipe_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("api.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let sidecar = Sidecar::start(&config(&pipe)).await;
    eventually("it is said", secs(3), || async {
        sidecar.process.log().contains("it is not a regular file").then_some(())
    })
    .await;
    assert_eq!(sidecar.get("/livez").await.0, 200);
}
