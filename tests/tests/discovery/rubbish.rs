//! Answers that nobody should believe are not believed (RELIABILITY D7).

use outrigger_tests::load::Load;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, millis, secs};

use crate::backends;
use crate::faulty::{FaultyDns, Reply};
use crate::forged::Forgery;

/// The forged answer comes first each time, and the true one right behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_no_answer_to_the_question_is_ignored() {
    let [a, b, liar] = backends().await;
    let dns = FaultyDns::start().await;
    dns.serve_srv(&[a.address]);
    let held = "[clusters.api]\nremoval_hold = \"disabled\"\n";
    let sidecar = Sidecar::ready(&(dns.config() + held)).await;
    let load = Load::start(sidecar.web(), 6, 300);
    for (round, forgery) in Forgery::IGNORED.into_iter().enumerate() {
        let truth = if round % 2 == 0 { &b } else { &a };
        dns.set(Reply::Forged(forgery, liar.address, vec![truth.address]));
        sidecar.until_members("api", vec![truth.name()], secs(4)).await;
        let asked = dns.questions();
        eventually("it was asked twice more", secs(5), || async {
            (dns.questions() >= asked + 2).then_some(())
        })
        .await;
        let cluster = sidecar.cluster("api").await;
        assert!(cluster["stale_since"].is_null(), "{forgery:?}: {cluster}");
        sidecar.until_members("api", vec![truth.name()], millis(100)).await;
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    assert_eq!(tally.of(liar.address), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_read_is_a_failure_and_takes_nobody_away() {
    let [a, b, liar] = backends().await;
    let dns = FaultyDns::start().await;
    let truth = [a.address, b.address];
    dns.serve_srv(&truth);
    let held = "[clusters.api]\nremoval_hold = \"disabled\"\n";
    let sidecar = Sidecar::ready(&(dns.config() + held)).await;
    let load = Load::start(sidecar.web(), 6, 300);
    for forgery in Forgery::FAILURES {
        dns.set(Reply::Forged(forgery, liar.address, truth.to_vec()));
        sidecar.until_stale(true, secs(4)).await;
        let cluster = sidecar.cluster("api").await;
        println!("{forgery:?}: {}", cluster["last_error"]);
        sidecar.until_members("api", vec![a.name(), b.name()], millis(100)).await;
        dns.serve_srv(&truth);
        sidecar.until_stale(false, secs(6)).await;
    }
    let tally = load.stop().await;
    tally.assert_no_failures();
    assert_eq!(tally.of(liar.address), 0);
    assert!(!sidecar.process.log().contains("panicked"));
}
