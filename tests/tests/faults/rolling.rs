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
    let mut fleet = Fleet::start(4).await;
    let sidecar = Sidecar::ready(&config(&fleet.addresses(), CHECK)).await;
    let loads = ["GET", "POST"].map(|method| Load::start_with(sidecar.web(), 8, 300, method));
    sleep(millis(500)).await;
    fleet.restart(&sidecar, Notice::HealthPage).await;
    sleep(secs(1)).await;
    for load in loads {
        let tally = load.stop().await;
        tally.assert_no_failures();
        println!("{} requests, slowest {:?}", tally.total(), tally.slowest);
        for address in fleet.addresses() {
            let share = tally.share(address);
            assert!((10.0..=35.0).contains(&share), "{address}: {share:.1} %");
        }
    }
}
