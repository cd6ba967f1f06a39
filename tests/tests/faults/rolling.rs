//! A deployment: every backend is restarted, and nobody notices.

use outrigger_tests::backend::config;
use outrigger_tests::load::Load;
use outrigger_tests::rolling::{CHECK, Fleet, Notice};
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{millis, secs};
use tokio::time::sleep;

/// POSTs are not tried again once a byte of them was sent: there is nothing to make up for a
/// request that is sent to a backend which goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_rolling_restart_costs_no_request() {
    for notice in [Notice::HealthPage, Notice::HealthPageAndDrain] {
        restart(notice).await;
    }
}

async fn restart(notice: Notice) {
    let mut fleet = Fleet::start(4).await;
    let sidecar = Sidecar::ready(&config(&fleet.addresses(), CHECK)).await;
    let loads = ["GET", "POST"].map(|method| Load::start_with(sidecar.web(), 8, 300, method));
    sleep(millis(500)).await;
    fleet.restart(&sidecar, notice).await;
    let restarted = loads[1].started.elapsed();
    sleep(secs(1)).await;
    let [gets, posts] = loads.map(Load::stop);
    let (gets, posts) = (gets.await, posts.await);
    for tally in [&gets, &posts] {
        tally.assert_no_failures();
        println!("{} requests, slowest {:?}", tally.total(), tally.slowest);
    }
    // Which of the two kinds falls to a backend's turns is chance.
    for address in fleet.addresses() {
        let last = [&gets, &posts].map(|tally| tally.seen.get(&address.to_string()).map(|at| at.1));
        assert!(last.into_iter().max() > Some(Some(restarted)), "{address} is not used any more");
    }
}
