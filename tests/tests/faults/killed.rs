//! `kill -9` of one of four: nothing listens on its port any more, and what was open is reset.

use std::time::Duration;

use http::Response;
use outrigger_tests::backend::{Backend, config, full, unused_port};
use outrigger_tests::client::{Client, request};
use outrigger_tests::load::{Load, percentile};
use outrigger_tests::nginx::Nginx;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

async fn four() -> [Nginx; 4] {
    [Nginx::start().await, Nginx::start().await, Nginx::start().await, Nginx::start().await]
}

/// Only its traffic tells the sidecar.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_backend_costs_no_get_and_gets_no_more_of_them() {
    let mut backends = four().await;
    let sidecar =
        Sidecar::ready(&config(&backends.each_ref().map(|nginx| nginx.address), "")).await;
    let victim = backends[1].name();
    let gets = Load::start(sidecar.web(), 48, 1000);
    let posts = Load::start_with(sidecar.web(), 16, 300, "POST");
    tokio::time::sleep_until(gets.started + secs(1)).await;
    backends[1].kill().await;
    let killed = gets.started.elapsed();
    sidecar.until_state("api", &victim, "ejected", secs(1)).await;
    eventually("what was on its way to it is over", secs(1), || async {
        (sidecar.in_flight("api", &victim).await == 0).then_some(())
    })
    .await;
    let before = sidecar.picks("api", &victim).await;
    tokio::time::sleep_until(gets.started + killed + secs(3)).await;
    assert_eq!(sidecar.picks("api", &victim).await, before, "it is tried again");
    let address = backends[1].address;
    backends[1] = Nginx::at(address).await;
    // When the ejection of 10 s is over, the next request shows that it is back.
    sidecar.until_state("api", &victim, "ready", secs(9)).await;
    let back = gets.started.elapsed();
    tokio::time::sleep_until(gets.started + back + secs(1)).await;
    let (gets, posts) = (gets.stop().await, posts.stop().await);
    gets.assert_no_failures();
    assert!(gets.seen[&victim].1 > back, "it answers again");
    // At most those that were on it at that moment, of which there cannot be more than
    // connections.
    println!("{} GETs, {} of {} POSTs failed", gets.total(), posts.failures.len(), posts.total());
    assert!(posts.failures.len() <= 16, "{:?}", posts.failures);
    let at_the_kill =
        |(at, _): &&(Duration, String)| *at + secs(1) > killed && *at < killed + secs(1);
    assert_eq!(posts.failures.iter().filter(at_the_kill).count(), posts.failures.len());
}

/// All are held by the backends behind nginx while one nginx dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_those_posts_fail_that_were_on_it() {
    const POSTS: usize = 40;
    let (open, opened) = watch::channel(false);
    let holding = Backend::answering(move |_| {
        let mut opened = opened.clone();
        async move {
            opened.wait_for(|open| *open).await.unwrap();
            Response::new(full("released"))
        }
    })
    .await;
    let proxy = format!("location /held {{ proxy_pass http://{}; }}", holding.address);
    let mut backends = Vec::new();
    for _ in 0..4 {
        backends.push(Nginx::configured(unused_port(), &proxy).await);
    }
    let addresses: Vec<_> = backends.iter().map(|nginx| nginx.address).collect();
    let sidecar = Sidecar::ready(&config(&addresses, "")).await;
    let web = sidecar.web();
    let post = move |path: &'static str| async move {
        let request = request("POST", path, web).body(Default::default()).unwrap();
        Client::connect(web).await.unwrap().send(request).await.unwrap().status().as_u16()
    };
    let mut held = JoinSet::new();
    (0..POSTS).for_each(|_| drop(held.spawn(post("/held"))));
    eventually("all are held", secs(10), || async { (holding.hits() == POSTS).then_some(()) })
        .await;
    let in_flight = sidecar.in_flight("api", &backends[1].name()).await;
    backends[1].kill().await;
    // Nobody else notices.
    for _ in 0..40 {
        assert_eq!(post("/").await, 200);
    }
    open.send_replace(true);
    let statuses = held.join_all().await;
    let failed = statuses.iter().filter(|status| **status != 200).count();
    println!("{failed} failed, {in_flight} were on it");
    assert!(
        in_flight >= 8 && failed as u64 <= in_flight,
        "{failed} failed, {in_flight} were on it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_second_of_the_kill_is_hardly_slower_and_a_restart_is_noticed() {
    const CHECK: &str = "[clusters.api.health]\nprobe = \"tcp\"\ninterval = \"500ms\"\n";
    const BACK: Duration = secs(1);
    let mut backends = four().await;
    let addresses = backends.each_ref().map(|nginx| nginx.address);
    let sidecar = Sidecar::ready(&(config(&addresses, "") + CHECK)).await;
    let load = Load::start(sidecar.web(), 64, 1000);
    let (mut kills, mut returns) = (Vec::new(), Vec::new());
    // One round says more about the machine than about a kill.
    for victim in [0, 1, 2, 3, 0] {
        tokio::time::sleep(secs(1)).await;
        let name = backends[victim].name();
        kills.push(load.started.elapsed());
        backends[victim].kill().await;
        sidecar.until_state("api", &name, "unhealthy", secs(3)).await;
        backends[victim] = Nginx::at(addresses[victim]).await;
        let restarted = Instant::now();
        sidecar.until_state("api", &name, "ready", BACK + secs(2)).await;
        returns.push(restarted.elapsed());
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    let p99 = |from: Duration| percentile(&tally.times(from..from + secs(1)), 99);
    let ratio = |kill: &Duration| p99(*kill).as_secs_f64() / p99(*kill - secs(1)).as_secs_f64();
    let mut ratios: Vec<f64> = kills.iter().map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    returns.sort_unstable();
    println!("p99 in that second, as a multiple of the one before: {ratios:.2?}; {returns:?}");
    assert!(ratios[2] <= 2.0, "{ratios:.2?}");
    assert!(returns[2] <= BACK, "back after {returns:?}");
}
