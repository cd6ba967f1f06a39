//! Search domains: where a short name is looked for, and what counts as not found.

use hickory_proto::op::ResponseCode;
use outrigger_tests::bind::SERVICE;
use outrigger_tests::secs;
use outrigger_tests::sidecar::Sidecar;

use crate::backends;
use crate::faulty::{self, FaultyDns, Reply};

fn config(dns: &FaultyDns, name: &str) -> String {
    let search = "search = [\"near.internal\", \"far.internal.\"]";
    let hold = "[clusters.api]\nremoval_hold = \"disabled\"\n";
    faulty::config(&[dns.address], search).replace(SERVICE, name) + hold
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_first_domain_that_has_the_name_counts_and_a_failure_is_no_no() {
    let [near, far] = backends().await;
    let dns = FaultyDns::start().await;
    dns.set(Reply::NxDomain);
    dns.set_name("_api._tcp.far.internal.", Reply::Srv(vec![far.address]));
    let sidecar = Sidecar::ready(&config(&dns, "_api._tcp")).await;
    sidecar.until_members("api", vec![far.name()], secs(1)).await;

    dns.set_name("_api._tcp.near.internal.", Reply::Code(ResponseCode::ServFail));
    sidecar.until_stale(true, secs(4)).await;
    sidecar.until_members("api", vec![far.name()], secs(1)).await;

    dns.set_name("_api._tcp.near.internal.", Reply::Srv(vec![near.address]));
    sidecar.until_stale(false, secs(6)).await;
    sidecar.until_members("api", vec![near.name()], secs(2)).await;

    // Nobody says no as long as one of them has not said it.
    dns.set_name("_api._tcp.near.internal.", Reply::NoData);
    dns.set_name("_api._tcp.far.internal.", Reply::Silence);
    sidecar.until_stale(true, secs(6)).await;
    sidecar.until_members("api", vec![near.name()], secs(1)).await;
    dns.set_name("_api._tcp.far.internal.", Reply::NxDomain);
    sidecar.until_members("api", vec![], secs(6)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_final_dot_or_no_domains_leave_a_name_as_it_is() {
    let [whole, near] = backends().await;
    let dns = FaultyDns::start().await;
    dns.set(Reply::NxDomain);
    dns.set_name("_api._tcp.", Reply::Srv(vec![whole.address]));
    dns.set_name("_api._tcp.near.internal.", Reply::Srv(vec![near.address]));
    let none = faulty::config(&[dns.address], "").replace(SERVICE, "_api._tcp");
    // With a dot inside, the name is asked for as it stands first.
    for config in [config(&dns, "_api._tcp"), config(&dns, "_api._tcp."), none.clone()] {
        let sidecar = Sidecar::ready(&config).await;
        sidecar.until_members("api", vec![whole.name()], secs(1)).await;
    }
    dns.set_name("_api._tcp.", Reply::NxDomain);
    for config in [config(&dns, "_api._tcp."), none] {
        let sidecar = Sidecar::ready(&config).await;
        sidecar.until_members("api", vec![], secs(1)).await;
    }
}
