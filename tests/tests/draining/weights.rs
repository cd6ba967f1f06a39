//! Weights by order, of one sidecar.

use outrigger_tests::backend::{Backend, config};
use outrigger_tests::load::burst;
use outrigger_tests::sidecar::Sidecar;
use outrigger_tests::{eventually, secs};

/// Shares follow an order at once, and what discovery says once it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_weight_holds_until_it_is_reset_or_its_time_is_over() {
    let (a, b) = (Backend::start().await, Backend::start().await);
    let sidecar = Sidecar::ready(&config(&[a.address, b.address], "")).await;
    let share = async || burst(sidecar.web(), 2, 200).await.share(a.address);
    let (code, said) = sidecar.command(&["weight", "api", &a.name(), "3"]).await;
    assert_eq!((code, said), (0, format!("{} of api has weight 3\n", a.name())));
    let shown = sidecar.backend(&a.name()).await;
    assert_eq!(shown["weight"], serde_json::json!({ "configured": 1.0, "effective": 3.0 }));
    let order = serde_json::json!([
        {
            "owner": "admin",
            "kind": "weight",
            "weight": 3,
            "factor": null,
            "expires_at": null,
            "leased": false
        }
    ]);
    assert_eq!(shown["orders"], order);
    assert!((share().await - 75.0).abs() < 2.0);

    let (code, said) = sidecar.command(&["weight", "api", &a.name(), "reset"]).await;
    assert_eq!((code, said), (0, format!("{} of api has weight 1\n", a.name())));
    assert!((share().await - 50.0).abs() < 2.0);

    // Nothing, while there is another.
    let (status, view) = sidecar.order(&a.name(), "weight", "{\"weight\":0,\"ttl\":\"1s\"}").await;
    assert!(status == 200 && view["backend"]["orders"][0]["expires_at"].is_string(), "{view}");
    assert_eq!(share().await, 0.0);
    eventually("its time is over", secs(2), || async {
        sidecar.backend(&a.name()).await["orders"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    assert!((share().await - 50.0).abs() < 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn weights_that_are_none_are_refused() {
    let a = Backend::start().await;
    let sidecar = Sidecar::ready(&config(&[a.address], "")).await;
    for body in ["{\"weight\":65536}", "{\"weight\":\"3\"}", "{\"ttl\":\"1s\"}", "{\"w\":1}"] {
        assert_eq!(sidecar.order(&a.name(), "weight", body).await.0, 400, "{body}");
    }
    for weight in ["65536", "x", "-1"] {
        let (code, said) = sidecar.command(&["weight", "api", &a.name(), weight]).await;
        assert_eq!(code, 2, "{said}");
    }
    assert_eq!(sidecar.backend(&a.name()).await["weight"]["effective"], 1.0);
}
