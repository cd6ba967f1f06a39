//! What outlives a restart, a change of members, and a change of secrets.

use std::path::{Path, PathBuf};

use outrigger_tests::backend::{Backend, config, full};
use outrigger_tests::bind::{Bind, SERVICE, ZONE, srv};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{secs, tool};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::world::{BY_COOKIE, Browser, Caller, backends, sticky};

/// The real thing: curl and the cookie jar that it writes.
struct Curl<'a> {
    jar: &'a Path,
}

impl Curl<'_> {
    /// As many GETs, all with success; who answered them.
    async fn get(&self, sidecar: &Sidecar, count: usize) -> Vec<String> {
        let mut curl = Command::new(tool("curl", "curl"));
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %header{x-backend}\n"]);
        curl.arg("-b").arg(self.jar).arg("-c").arg(self.jar);
        curl.arg(format!("http://{}/?[1-{count}]", sidecar.web())).kill_on_drop(true);
        let output = tokio::time::timeout(secs(60), curl.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let backend =
            |line: &str| line.strip_prefix("200 ").unwrap_or_else(|| panic!("{line}")).into();
        text.lines().map(backend).collect()
    }

    fn jar(&self) -> String {
        let jar = std::fs::read_to_string(self.jar).unwrap();
        let cookies = jar.lines().filter(|line| line.contains("LB_SESSION_api"));
        cookies.map(|line| format!("{line}\n")).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn curl_stays_for_1000_requests_through_other_members_and_a_restart() {
    let [a, b, c, late] = backends().await;
    let zone =
        srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b") + &srv(10, 1, c.address, "c");
    let bind = Bind::start(&zone).await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state").display().to_string();
    let config =
        bind.config("") + BY_COOKIE + &format!("[runtime]\nstate_dir = {state:?}\nworkers = 2\n");
    let jar = dir.path().join("jar");
    let curl = Curl { jar: &jar };

    let mut sidecar = Sidecar::ready(&config).await;
    let mut answered = curl.get(&sidecar, 400).await;
    let (home, cookie) = (answered[0].clone(), curl.jar());
    assert_eq!(cookie.lines().count(), 1, "{cookie}");
    assert!(cookie.starts_with("#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t"), "{cookie}");

    // One joins, and another one than the client's leaves.
    let named = [(&a, "a"), (&b, "b"), (&c, "c")];
    let (leaving, name) = named.into_iter().find(|(backend, _)| backend.name() != home).unwrap();
    bind.update(&format!(
        "update add late.{ZONE}. 1 A 127.0.0.1\n\
         update add {SERVICE}. 1 SRV 10 1 {} late.{ZONE}.\n\
         update delete {SERVICE}. SRV 10 1 {} {name}.{ZONE}.",
        late.address.port(),
        leaving.address.port()
    ))
    .await;
    let staying =
        [&a, &b, &c, &late].into_iter().filter(|backend| backend.name() != leaving.name());
    let staying: Vec<_> = staying.map(Backend::name).collect();
    sidecar.until_members("api", staying.clone(), secs(10)).await;
    answered.extend(curl.get(&sidecar, 300).await);
    assert_eq!(hits(&sidecar).await, 699.0);

    assert_eq!(sidecar.stop().await, 0);
    let sidecar = Sidecar::ready(&config).await;
    answered.extend(curl.get(&sidecar, 300).await);
    assert_eq!(hits(&sidecar).await, 300.0);

    assert_eq!(answered.len(), 1000);
    assert!(answered.iter().all(|backend| *backend == home), "{answered:?}");
    assert_eq!(curl.jar(), cookie, "it was set again");
}

async fn hits(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_affinity_total", &[("result", "hit")]).await
}

/// A client's backend leaves: what belongs there may still arrive while it drains.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_backend_that_drains_keeps_its_clients_and_gets_no_others() {
    let [a, b] = backends().await;
    let bind = Bind::start(&(srv(10, 1, a.address, "a") + &srv(10, 1, b.address, "b"))).await;
    let sidecar = Sidecar::ready(&(bind.config("") + BY_COOKIE)).await;
    let mut browser = Browser::new(sidecar.web()).await;
    let home = browser.visit().await.backend;
    let (own, name) = if a.name() == home { (&a, "a") } else { (&b, "b") };
    let port = own.address.port();
    bind.update(&format!("update delete {SERVICE}. SRV 10 1 {port} {name}.{ZONE}.")).await;

    // It never has a second without work, which would be its end.
    let drains = (home.clone(), "draining".to_owned());
    let end = Instant::now() + secs(10);
    while !sidecar.states("api").await.contains(&drains) {
        assert_eq!(browser.stays(5).await, home);
        assert!(Instant::now() < end, "it never drains");
    }
    let mut newcomers = Caller::new(sidecar.web()).await;
    for _ in 0..20 {
        assert_ne!(newcomers.get(&[]).await.backend, home);
        assert_eq!(browser.stays(5).await, home);
    }
    // Once it has nothing to do it is gone, and the client moves.
    let other = if own.name() == a.name() { &b } else { &a };
    sidecar.until_members("api", vec![other.name()], secs(10)).await;
    let moved = browser.visit().await;
    assert!(moved.backend != home && moved.set.is_some(), "{moved:?}");
    assert_eq!(browser.stays(20).await, moved.backend);
}

/// After a restart some backends have passed their first probe and others have not, for no fault
/// of theirs: their clients must not be moved for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn clients_stay_with_backends_that_a_new_sidecar_has_not_probed_yet() {
    let (release, released) = watch::channel(true);
    let held = Backend::answering(move |request| {
        let mut released = released.clone();
        async move {
            if request.uri().path() == "/health" {
                let _ = released.wait_for(|released| *released).await;
            }
            http::Response::new(full("hello"))
        }
    })
    .await;
    let prompt = Backend::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = config(&[held.address, prompt.address], BY_COOKIE)
        + "[clusters.api.health]\nprobe = \"http\"\npath = \"/health\"\ntimeout = \"30s\"\n"
        + &format!("[runtime]\nstate_dir = {:?}\n", dir.path().display().to_string());
    let mut sidecar = Sidecar::ready(&config).await;
    let browser = Browser::of(sidecar.web(), &held).await;
    assert_eq!(sidecar.stop().await, 0);

    release.send(false).unwrap();
    let sidecar = Sidecar::start(&config).await;
    sidecar.until_state("api", &prompt.name(), "ready", secs(5)).await;
    sidecar.until_state("api", &held.name(), "pending", secs(5)).await;
    let mut browser = browser.goes_to(sidecar.web()).await;
    assert_eq!(browser.stays(20).await, held.name());
    // Others are sent to whoever has passed.
    let mut newcomers = Caller::new(sidecar.web()).await;
    for _ in 0..10 {
        assert_eq!(newcomers.get(&[]).await.backend, prompt.name());
    }
}

const OLD: &str = "the old secret, which is long enough";
const NEW: &str = "the new secret, which is no less long";

struct SecretFile {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SecretFile {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { path: dir.path().join("secret"), _dir: dir }
    }

    fn holds(&self, secrets: &[&str]) {
        std::fs::write(&self.path, secrets.join("\n")).unwrap();
    }

    fn config(&self, backends: &[Backend]) -> String {
        let path = self.path.display().to_string();
        sticky(backends, "by = \"cookie\"") + &format!("[affinity]\nsecret_file = {path:?}\n")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sidecars_that_share_a_secret_know_each_others_clients() {
    let all: [Backend; 4] = backends().await;
    let secret = SecretFile::new();
    secret.holds(&[OLD]);
    let config = secret.config(&all);
    let sidecars = [Sidecar::start(&config).await, Sidecar::start(&config).await];
    for i in 0..8 {
        let (here, there) = (&sidecars[i % 2], &sidecars[(i + 1) % 2]);
        let mut browser = Browser::new(here.web()).await;
        let home = browser.visit().await.backend;
        browser = browser.goes_to(there.web()).await;
        assert_eq!(browser.stays(5).await, home);
    }
    let alone = Sidecar::start(&sticky(&all, "by = \"cookie\"")).await;
    let mut browser = Browser::new(sidecars[0].web()).await;
    browser.visit().await;
    let mut stranger = browser.goes_to(alone.web()).await;
    assert!(stranger.visit().await.set.is_some());
    let forged = alone.metric("outrigger_affinity_total", &[("result", "forged")]).await;
    assert_eq!(forged, 1.0);
}

/// The new secret comes second, then first, then alone: each time with a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_secret_is_replaced_without_a_client_moved() {
    let all: [Backend; 4] = backends().await;
    let secret = SecretFile::new();
    let mut browsers: Vec<(Browser, String)> = Vec::new();
    let steps = [(&[OLD][..], false), (&[OLD, NEW], false), (&[NEW, OLD], true), (&[NEW], false)];
    for (secrets, signs_anew) in steps {
        secret.holds(secrets);
        let mut sidecar = Sidecar::start(&secret.config(&all)).await;
        let mut before = Vec::new();
        for (browser, home) in browsers {
            let mut browser = browser.goes_to(sidecar.web()).await;
            let visit = browser.visit().await;
            assert_eq!(visit.backend, home, "{secrets:?}");
            assert_eq!(visit.set.is_some(), signs_anew, "{secrets:?}: {visit:?}");
            assert_eq!(browser.stays(5).await, home);
            before.push((browser, home));
        }
        // Others come at every step.
        for _ in 0..4 {
            let mut browser = Browser::new(sidecar.web()).await;
            let home = browser.visit().await.backend;
            before.push((browser, home));
        }
        browsers = before;
        sidecar.process.kill().await;
    }

    // Who slept through all of it is a stranger, and welcome.
    secret.holds(&[OLD]);
    let first = Sidecar::start(&secret.config(&all)).await;
    let mut sleeper = Browser::new(first.web()).await;
    sleeper.visit().await;
    secret.holds(&[NEW]);
    let last = Sidecar::start(&secret.config(&all)).await;
    sleeper = sleeper.goes_to(last.web()).await;
    let welcome = sleeper.visit().await;
    assert!(welcome.status == 200 && welcome.set.is_some(), "{welcome:?}");
    assert_eq!(sleeper.stays(5).await, welcome.backend);
}
